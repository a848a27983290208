"""Tries what an audited system could change.

  giajax advise WORKDIR [--only=batch,noise] [--point=N] [--epochs=0]

runs the audit of a finished workdir again for every row of `advice.changes`,
each with that one change, in WORKDIR/advice/. Each is a whole audit with as
many cases, restarts and steps as the first. The outcomes are written to
WORKDIR/advice.json and to the report's page. An effect on what the attack
recovers is named only where chance does not explain it, which takes audits of
eight updates or more (cases.count), and only if the attack recovered something
in the first place.

Costs are measured as well: the time that a client takes per image, the number
of parameters that it trains, and how far a defence turns the update away from
the undefended one. With --epochs=E, the networks are also trained for E epochs,
as by `giajax train`, under each change that affects training, and their
accuracies are compared. The page also says whether the checks of `giajax
verify` object to the models that this server sends.

Python files of your own that the config of the run names are run again only
with --run_code, because a workdir from elsewhere could name any file.

If the config has a sweep, --point says which of its settings to change. If the
command is stopped, the same command continues it.
"""

from giajax.advice import trials
from giajax.commands import flags

USAGE = 'giajax advise WORKDIR'
FLAGS = (
  flags.Flag(
    'only', 'The changes to try, separated by commas; all if empty.', [], list
  ),
  flags.POINT,
  flags.Flag('epochs', 'Epochs of training under each change.', 0, int, 0),
  flags.Flag(
    'run_code', 'Run the Python files that the config names.', False, bool
  ),
)


def run(arguments: flags.Arguments) -> int:
  """Tries changes and prints one line per change."""
  values = arguments.values
  print(
    trials.advise(
      arguments.words[0],
      only=values.only,
      point=values.point,
      epochs=values.epochs,
      run_code=values.run_code,
      command=arguments.command,
    )
  )
  return 0
