"""Checks a model before it is trained.

  giajax verify --config=NAME --received=FILE [--accepted=FILE] [--json]
    [--probe=16] [--case=0] [--seed=N] [--point=N] [--learning_rate=R]
    [--only=CHECK,CHECK] [--config.model.name=...]

The config names the network that the clients agreed to train, and the data set
that the client's own images come from. --probe of these are drawn to try the
model on. What the config says of batches, of an attack and of weights is not
used. FILE is an npz or .safetensors with torch's names and layouts, as `giajax
train` and `giajax craft` write it, or the folder of an Orbax checkpoint of
{'params': ..., 'stats': ...} with giajax's names. Nothing is unpickled.
--accepted names the weights that the client accepted last, and --learning_rate
is the learning rate times the local steps of a round.

Seventeen checks look at the weights, or try them on the images; `giajax --list`
names them. They try the network that was agreed on: if more layers arrived,
the checks that need gradients look at the agreed ones. The seed of the images
and of the units that checks look at is a new one each time, so that no server
can prepare for it. It is printed, and --seed repeats a run.

The exit code is 0 if no check objects, and 1 if at least one does, whose words
say why. It is 2 if the weights or the images cannot be used, or if none of the
checks has anything to look at. That no check objects does not mean that the
updates of this model give nothing away. In JSON, a score that is not finite is
null.
"""

from collections.abc import Sequence
import secrets

from absl import flags as absl_flags

from giajax import registry
from giajax.commands import flags
from giajax.commands import process
from giajax.engine import build
from giajax.engine import received
from giajax.engine import sweep
from giajax.verify import checkup
from giajax.verify import VERIFIERS


def run(argv: Sequence[str]) -> int:
  """Checks a model as the arguments behind `giajax verify` say.

  Returns:
    The exit code: 0 if no check objects, 1 if one does.
  """
  values = _flags()
  rest = flags.parse(values, ['giajax', *argv], 'giajax verify')
  if values.help:
    print(f'{__doc__}\n{values.main_module_help()}')
    return 0
  if rest or values.config is None or not values.received:
    raise ValueError(
      'Expected giajax verify --config=NAME --received=FILE; got '
      f'{" ".join(argv) or "nothing"}; see giajax verify --help'
    )
  for name in values.only:
    registry.lookup(VERIFIERS, name, 'check')
  process.cache_compilations()
  config = sweep.only(values.config, values.point).config
  result = received.check(
    build.system(config),
    values.received,
    accepted=values.accepted,
    seed=secrets.randbits(31) if values.seed is None else values.seed,
    probe=values.probe,
    case=values.case,
    learning_rate=values.learning_rate,
    only=values.only or list(VERIFIERS),
  )
  say = checkup.to_json if values.json else checkup.words
  print(say(result, values.received))
  return 1 if result.flagged else 0


def _flags() -> absl_flags.FlagValues:
  values = flags.values()
  texts = {
    'received': 'The weights that the server sent.',
    'accepted': 'The weights that the client accepted last.',
  }
  for name, text in texts.items():
    absl_flags.DEFINE_string(name, '', text, flag_values=values)
  absl_flags.DEFINE_list(
    'only', [], 'The checks to run; all if empty.', flag_values=values
  )
  absl_flags.DEFINE_integer(
    'probe', 16, 'Images that the model is tried on.', flag_values=values
  )
  absl_flags.DEFINE_integer(
    'case', 0, 'Which draw of these images.', 0, flag_values=values
  )
  absl_flags.DEFINE_integer(
    'seed',
    None,
    'The seed of all draws; a new one by default.',
    0,
    flag_values=values,
  )
  absl_flags.DEFINE_integer(
    'point', None, 'The setting of the sweep, from 0.', flag_values=values
  )
  absl_flags.DEFINE_float(
    'learning_rate',
    None,
    'The learning rate times the local steps of a round.',
    flag_values=values,
  )
  absl_flags.DEFINE_bool('json', False, 'Print JSON.', flag_values=values)
  return values
