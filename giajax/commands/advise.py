"""The command that tries what an audited system could change.

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

from collections.abc import Sequence
import shlex

from absl import flags as absl_flags

from giajax.advice import trials
from giajax.commands import flags
from giajax.commands import process


def run(argv: Sequence[str]) -> int:
  """Tries the changes that the arguments behind `giajax advise` name."""
  values = _flags()
  rest = flags.plain(values, argv, 'giajax advise')
  if values.help:
    print(f'{__doc__}\n{values.main_module_help()}')
    return 0
  if len(rest) != 1:
    raise ValueError(
      f'Expected giajax advise WORKDIR; got {" ".join(argv) or "nothing"}; '
      'see giajax advise --help'
    )
  process.log_to_stderr()
  process.cache_compilations()
  print(
    trials.advise(
      rest[0],
      only=[name for name in values.only.split(',') if name],
      point=values.point,
      epochs=values.epochs,
      command=shlex.join(['giajax', 'advise', *argv]),
    )
  )
  return 0


def _flags() -> absl_flags.FlagValues:
  values = flags.bare()
  absl_flags.DEFINE_string(
    'only', '', 'Names of changes, by commas.', flag_values=values
  )
  absl_flags.DEFINE_integer(
    'point', None, 'Which setting of a sweep, from 0.', flag_values=values
  )
  absl_flags.DEFINE_integer(
    'epochs', 0, 'Of training under each change.', 0, flag_values=values
  )
  return values
