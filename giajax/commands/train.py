"""The command that trains the network of an audit.

  giajax train --config=NAME --out=FILE.npz [--config.model.name=...]
    [--point=N] [--split=train] [--epochs=1] [--batch_size=128]
    [--learning_rate=0.1] [--momentum=0.9] [--weight_decay=5e-4] [--every=0]
    [--seed=0]

takes data set, model, weights to start from, client, defence and trainable
subset from the config of an audit, trains on another split of the data set,
always with BatchNorm in training mode, and writes weights that
`--config.weights.path` reads. Beside them, FILE.json says how they were made,
their sha256, and the accuracy on the config's own split. --every=N keeps
FILE-epochE.npz after each N epochs. Of a config with a sweep, --point says
which of its settings to train, from 0 and the last key fastest. A training that
is stopped leaves what --every kept, and does not continue.
"""

from collections.abc import Sequence
import shlex

from absl import flags as absl_flags

from giajax.commands import flags
from giajax.commands import process
from giajax.engine import train


def run(argv: Sequence[str]) -> int:
  """Trains as the arguments behind `giajax train` say."""
  values = _flags()
  rest = flags.parse(values, ['giajax', *argv], 'giajax train')
  if values.help:
    print(f'{__doc__}\n{values.main_module_help()}')
    return 0
  if rest or values.config is None or not values.out:
    raise ValueError(
      'Expected giajax train --config=NAME --out=FILE.npz; got '
      f'{" ".join(argv) or "nothing"}; see giajax train --help'
    )
  process.log_to_stderr()
  process.cache_compilations()
  fields = {name: getattr(values, name) for name in train.Plan._fields}
  print(
    train.train_config(
      values.config,
      values.out,
      train.Plan(**fields),
      split=values.split,
      point=values.point,
      every=values.every,
      command=shlex.join(['giajax', 'train', *argv]),
    )
  )
  return 0


def _flags() -> absl_flags.FlagValues:
  values = flags.values()
  texts = {
    'out': ('', 'The npz to write.'),
    'split': ('train', 'Of the data set, where it has splits.'),
  }
  for name, (default, text) in texts.items():
    absl_flags.DEFINE_string(name, default, text, flag_values=values)
  numbers = {
    'epochs': 'Passes over the training set.',
    'batch_size': 'Images behind one update.',
    'learning_rate': 'Of the first step; it falls to 0 along a cosine.',
    'momentum': 'Of SGD.',
    'weight_decay': 'Of every parameter.',
    'seed': 'Of weights, order and draws.',
  }
  defaults = train.Plan()
  for name, text in numbers.items():
    default = getattr(defaults, name)
    whole = isinstance(default, int)
    define = absl_flags.DEFINE_integer if whole else absl_flags.DEFINE_float
    define(name, default, text, flag_values=values)
  absl_flags.DEFINE_integer(
    'point', None, 'Which setting of a sweep, from 0.', flag_values=values
  )
  absl_flags.DEFINE_integer(
    'every', 0, 'Keep weights after each so many epochs.', flag_values=values
  )
  return values
