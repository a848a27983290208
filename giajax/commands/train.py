"""Trains what an audit uses: its network, or the generator of its attack.

  giajax train --config=NAME --out=FILE.npz [--config.KEY=VALUE] [--point=N]
    [--part=model] [--split=train] [--epochs=1] [--seed=0] [--every=0]
    [--batch_size=] [--learning_rate=] [--momentum=] [--weight_decay=]
    [--critic_steps=] [--noflip]

--part=model trains the network, with the data set, the weights to start from,
the client, the defence and the trainable subset of the config of an audit, on
another split of the data set, always with BatchNorm in training mode. The
result is a file that --config.weights.path reads. --part=generator trains the
generator of the config's attack on that split by adversarial training; the
result is a file that --config.attack.generator.path reads. If the config's
network has weights from a file, it judges the samples.

FILE.json says how the weights were made, and gives their sha256 and what they
are worth; FILE-losses.png shows the losses, and FILE.png samples of a
generator. The same command continues training that was stopped.
"""

from giajax import printable
from giajax.commands import configs
from giajax.commands import flags
from giajax.engine import lessons
from giajax.engine import program
from giajax.engine import train
from giajax.report import training

_TEXTS = {
  'batch_size': 'Images behind one step. 128 for a model, 64 for a generator.',
  'learning_rate': 'The learning rate at first, which falls to 0. 0.1 for SGD '
  'of a model, 2e-4 for Adam of a generator.',
  'momentum': 'The momentum of SGD, of a model. 0.9 by default.',
  'weight_decay': 'The weight decay of every parameter, of a model. 5e-4 by '
  'default.',
  'critic_steps': 'Steps of the discriminator in each step of a generator. 1 '
  'by default.',
}
_KINDS = {'batch_size': (int, 1), 'critic_steps': (int, 1)}

USAGE = 'giajax train --config=NAME --out=FILE.npz'
FLAGS = (
  flags.CONFIG,
  flags.OUT,
  flags.POINT,
  flags.Flag('part', 'What to train: model or generator.', 'model'),
  flags.Flag('split', 'The split to train on, if there are splits.', 'train'),
  flags.Flag('epochs', 'Passes over the training set.', 1, int, 1),
  flags.Flag(
    'seed',
    'The seed of the weights, the order of the images, and all draws.',
    0,
    int,
    0,
  ),
  flags.Flag(
    'every',
    'Keeps FILE-epochE.npz every this many epochs; 0 keeps none.',
    0,
    int,
    0,
  ),
  *(
    flags.Flag(name, text, None, *_KINDS.get(name, (float, None)))
    for name, text in _TEXTS.items()
  ),
  flags.Flag(
    'flip',
    'Whether a generator learns from mirrored images as well. It does by '
    'default.',
    None,
    bool,
  ),
)


@program.memory()
def run(arguments: flags.Arguments) -> int:
  """Trains a part of a config and prints what was written."""
  values = arguments.values
  outcome = train.train_config(
    configs.load(arguments),
    values.out,
    lessons.Recipe(*(getattr(values, name) for name in lessons.Recipe._fields)),
    part=values.part,
    point=values.point,
    split=values.split,
    every=values.every,
    command=arguments.command,
  )
  training.draw(outcome)
  print(printable.line(outcome.text))
  return 0
