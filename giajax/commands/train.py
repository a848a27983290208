"""Trains the network of an audit.

  giajax train --config=NAME --out=FILE.npz [--config.KEY=VALUE] [--point=N]
    [--split=train] [--epochs=1] [--batch_size=128] [--learning_rate=0.1]
    [--momentum=0.9] [--weight_decay=5e-4] [--every=0] [--seed=0]

The data set, the model, the weights to start from, the client, the defence and
the trainable subset come from the config of an audit. The network is trained on
another split of the data set, always with BatchNorm in training mode. The
result is an npz file that --config.weights.path reads, and FILE.json next to it
says how the weights were made, and gives their sha256 and their accuracy on the
config's own split. Training that is stopped cannot be continued, but the
weights that --every kept remain.
"""

from giajax import printable
from giajax.commands import configs
from giajax.commands import flags
from giajax.engine import program
from giajax.engine import train

_DEFAULTS = train.Recipe()
_TEXTS = {
  'epochs': 'Passes over the training set.',
  'batch_size': 'Images per update.',
  'learning_rate': 'The learning rate at first. It falls to 0 along a cosine.',
  'momentum': 'The momentum of SGD.',
  'weight_decay': 'The weight decay of every parameter.',
  'seed': 'The seed of the weights, the order of the images, and all draws.',
}
_LEAST = {'epochs': 1, 'batch_size': 1, 'seed': 0}

USAGE = 'giajax train --config=NAME --out=FILE.npz'
FLAGS = (
  flags.CONFIG,
  flags.OUT,
  flags.POINT,
  flags.Flag('split', 'The split to train on, if there are splits.', 'train'),
  *(
    flags.Flag(name, text, default, type(default), _LEAST.get(name))
    for name, text in _TEXTS.items()
    for default in [getattr(_DEFAULTS, name)]
  ),
  flags.Flag(
    'every',
    'Keeps FILE-epochE.npz every this many epochs; 0 keeps none.',
    0,
    int,
    0,
  ),
)


@program.memory()
def run(arguments: flags.Arguments) -> int:
  """Trains a network and prints what was written."""
  values = arguments.values
  written = train.train_config(
    configs.load(arguments),
    values.out,
    train.Recipe(*(getattr(values, name) for name in train.Recipe._fields)),
    split=values.split,
    point=values.point,
    every=values.every,
    command=arguments.command,
  )
  print(printable.line(written))
  return 0
