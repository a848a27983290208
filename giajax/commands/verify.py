"""Checks a model before it is trained.

  giajax verify --config=NAME --received=FILE [--accepted=FILE] [--json]
    [--only=CHECK,CHECK] [--probe=16] [--case=0] [--seed=N] [--point=N]

The config names the network that the clients agreed to train, and the data set
that the client's own images come from. What the config says about batches, the
attack and weights is not used. FILE is an npz or .safetensors with torch's
names and layouts, as `giajax train` and `giajax craft` write it, or the folder
of an Orbax checkpoint of {'params': ..., 'stats': ...} with giajax's names.
Nothing is unpickled.

Seventeen checks look at the weights, or try them on the images; `giajax --list`
names them. They try the network that was agreed on: if more layers arrived, the
checks that need gradients look at the agreed ones. The seed for the images and
for the units that checks look at is new each time, so that no server can
prepare for it. It is printed, and --seed repeats a run.

The exit code is 0 if no check objects, and 1 if at least one does. It is 2 if
the weights or the images cannot be used, or if no check has anything to look
at. If no check objects, the updates of this model may still give something
away. In JSON, a score that is not finite is null.
"""

from giajax.commands import configs
from giajax.commands import flags
from giajax.engine import program
from giajax.engine import received
from giajax.engine import sweep
from giajax.engine import systems
from giajax.verify import checkup

USAGE = 'giajax verify --config=NAME --received=FILE'
FLAGS = (
  flags.CONFIG,
  flags.POINT,
  flags.CASE,
  flags.Flag('received', 'The weights that the server sent.'),
  flags.Flag('accepted', 'The weights that the client accepted last.'),
  flags.Flag('only', 'The names of the checks; all if empty.', [], list),
  flags.Flag('probe', 'The number of images to try the model on.', 16, int, 1),
  flags.Flag('seed', 'The seed; if empty, a new one each time.', None, int, 0),
  flags.Flag(
    'learning_rate', 'The rate times the local steps per round.', None, float
  ),
  flags.Flag('json', 'Prints JSON.', False, bool),
)


@program.memory()
def run(arguments: flags.Arguments) -> int:
  """Checks a model, prints what the checks say, and returns the exit code."""
  values = arguments.values
  config = sweep.only(configs.load(arguments), values.point).config
  result = received.check(
    systems.system(config),
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
