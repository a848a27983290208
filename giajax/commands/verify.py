"""Checks a model before it is trained.

  giajax verify --config=NAME --received=FILE [--accepted=FILE] [--json]
    [--probe=16] [--case=0] [--seed=N] [--point=N] [--learning_rate=R]
    [--only=CHECK,CHECK] [--config.model.name=...]

Seventeen checks look at the weights, or try them on images of the client's own;
`giajax --list` names them. The config names the agreed network and the data set
of the images; its batches, attack and weights are not used. FILE is an npz or
.safetensors with torch's names and layouts, as `giajax train` and `giajax
craft` write it, or the folder of an Orbax checkpoint of {'params': ...,
'stats': ...} with giajax's names. Nothing is unpickled. If it holds more layers
than were agreed on, the checks that need gradients look at the agreed ones. The
seed is a new one each time, so that no server can prepare for it; it is
printed, and --seed repeats a run.

The exit code is 0 if no check objects, 1 if one does, and 2 if the weights or
the images cannot be used or no check has anything to look at. That no check
objects does not mean that the updates of this model give nothing away. In JSON,
a score that is not finite is null.
"""

from giajax.commands import configs
from giajax.commands import flags
from giajax.engine import build
from giajax.engine import received
from giajax.engine import sweep
from giajax.verify import checkup

USAGE = 'giajax verify --config=NAME --received=FILE'
FLAGS = (
  flags.CONFIG,
  flags.Flag('received', 'The weights that the server sent.'),
  flags.Flag('accepted', 'The weights that the client accepted last.'),
  flags.Flag('only', 'Checks to run, by commas; all if empty.', [], list),
  flags.Flag('probe', 'Images that the model is tried on.', 16, int),
  flags.Flag('case', 'Which draw of these images, from 0.', 0, int, 0),
  flags.Flag(
    'seed', 'The seed of all draws; a new one if empty.', None, int, 0
  ),
  flags.POINT,
  flags.Flag(
    'learning_rate',
    'The learning rate times the local steps of a round.',
    None,
    float,
  ),
  flags.Flag('json', 'Print JSON.', False, bool),
)


def run(arguments: flags.Arguments) -> int:
  """Prints what the checks say; returns 1 if one of them objects, else 0."""
  values = arguments.values
  config = sweep.only(configs.load(arguments), values.point).config
  result = received.check(
    build.system(config),
    values.received,
    accepted=values.accepted,
    seed=values.seed,
    probe=values.probe,
    case=values.case,
    learning_rate=values.learning_rate,
    only=values.only,
  )
  say = checkup.to_json if values.json else checkup.words
  print(say(result, values.received))
  return 1 if result.flagged else 0
