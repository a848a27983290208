"""Tries what an audited system could change.

  giajax advise WORKDIR [--only=batch,noise] [--point=N] [--epochs=0]

runs the audit of a finished workdir again for every row of `advice.changes`,
each with that one change, in WORKDIR/advice/. Each is a whole audit with as
many cases, restarts and steps as the first. What came of them is written to
WORKDIR/advice.json and to the report's page. An effect on what the attack
recovers is named only where chance does not explain it, which takes audits of
eight updates or more (cases.count), and only if the attack recovered something
in the first place.

Costs are measured as well: the time that a client takes per image, the number
of parameters that it trains, and how far a defence turns the update away from
the one without it. With --epochs=E, the networks are also trained for E epochs,
as by `giajax train`, under each change that affects training, and their
accuracies are compared. The page also says whether the checks of `giajax
verify` object to the models that this server sends.

If the config has a sweep, --point says which of its settings to change. The
same command continues one that was stopped.
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
    'only',
    '',
    'The changes to try, separated by commas; all if empty.',
    flag_values=values,
  )
  absl_flags.DEFINE_integer(
    'point', None, 'The setting of the sweep, from 0.', flag_values=values
  )
  absl_flags.DEFINE_integer(
    'epochs', 0, 'Epochs of training under each change.', 0, flag_values=values
  )
  return values
