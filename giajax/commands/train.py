"""Trains what an audit uses: its network, or the generator of its attack.

  giajax train --config=NAME --out=FILE.npz [--part=generator] [--epochs=1]

The config is that of an audit. A model learns from its clients, defence
included, always with BatchNorm in training mode: --config.weights.path reads
the file. A generator learns from the auxiliary data, or else from that split:
--config.attack.generator.path reads the file. One of samples is trained by
adversarial training, and judged by the config's network if that has weights
from a file; one that inverts updates learns from those that it computes.

FILE.json says how the weights were made and what they are worth, and pictures
show the losses and samples. The same command continues what was stopped.
"""

from typing import Any

from giajax import printable
from giajax.commands import configs
from giajax.commands import flags
from giajax.engine import lessons
from giajax.engine import program
from giajax.engine import train
from giajax.report import training

USAGE = 'giajax train --config=NAME --out=FILE.npz'
# Help, default, kind and least value; what has no default has the learner's.
_FLAGS: dict[str, Any] = {
  'part': ('What to train: model or generator.', 'model', str),
  'split': ('The split to train on, if there are splits.', 'train', str),
  'epochs': ('Passes over the training set.', 1, int, 1),
  'seed': (
    'Of the weights, the order of the images, and all draws.',
    0,
    int,
    0,
  ),
  'every': ('Keeps FILE-epochE.npz every E epochs; 0 for none.', 0, int, 0),
  'batch_size': ('Images or updates behind one step.', None, int, 1),
  'learning_rate': ('The highest. It falls to 0.', None, float),
  'momentum': ('Of SGD, for a model.', None, float),
  'weight_decay': ('Of every parameter of a model.', None, float),
  'warmup_steps': ('Over which that of a model rises.', None, int, 0),
  'critic_steps': ('Of the discriminator in each step.', None, int, 1),
  'critic_width': ('Channels of the discriminator at first.', None, int, 1),
  'flip': ('Whether samples may be mirror images.', None, bool),
}
FLAGS = (
  flags.CONFIG,
  flags.OUT,
  flags.POINT,
  *(flags.Flag(name, *facts) for name, facts in _FLAGS.items()),
)


@program.memory()
def run(arguments: flags.Arguments) -> int:
  """Trains a part of a config and prints what was written."""
  values = arguments.values
  outcome = train.train_config(
    configs.load(arguments),
    values.out,
    lessons.Recipe(*(getattr(values, name) for name in lessons.Recipe._fields)),
    **{n: getattr(values, n) for n in ('part', 'point', 'split', 'every')},
    command=arguments.command,
  )
  training.draw(outcome)
  print(printable.line(outcome.text))
  return 0
