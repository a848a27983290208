"""Tries what an audited system could change.

  giajax advise WORKDIR [--only=batch,noise] [--point=N] [--epochs=0]

runs the audit of a finished workdir again for every row of `advice.changes`,
each with that one change, in WORKDIR/advice/, and writes what came of it to
WORKDIR/advice.json and the report's page, beside what `giajax verify` says of
the models that this server sends. Each is a whole audit with as many cases,
restarts and steps as the first. Costs are measured as well: the time of
a client's update, the parameters that it sends, and how far a defence turns the
update from the one without it. With --epochs=E, networks are trained as by
`giajax train` for E epochs under each change that reaches a training, and their
accuracies compared.
Of a config with a sweep, --point says which of its settings to change. The same
command continues one that was stopped.
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
      command=arguments.command,
    )
  )
  return 0
