"""The command that writes what a server sends, so that it can be checked.

  giajax craft --config=NAME --out=FILE.npz [--case=0] [--round=0] [--client=0]
    [--point=N]

runs the server of a config up to a round, the first by default, and writes the
weights that one client of a case receives in it, with every layer that the
attack adds. An honest server sends the agreed weights. `giajax verify
--received=FILE.npz` reads them.
"""

from collections.abc import Sequence

from absl import flags as absl_flags
import numpy as np

from giajax import archives
from giajax import trees
from giajax.commands import flags
from giajax.engine import build
from giajax.engine import exchange
from giajax.engine import sweep
from giajax.models import base as models
from giajax.models import convert


def run(argv: Sequence[str]) -> int:
  """Writes what a server sends as the arguments behind `giajax craft` say."""
  values = _flags()
  rest = flags.parse(values, ['giajax', *argv], 'giajax craft')
  if values.help:
    print(f'{__doc__}\n{values.main_module_help()}')
    return 0
  if rest or values.config is None or not values.out:
    raise ValueError(
      'Expected giajax craft --config=NAME --out=FILE.npz; got '
      f'{" ".join(argv) or "nothing"}; see giajax craft --help'
    )
  archives.check(values.out)
  resolved = dict(sweep.only(values.config, values.point).config)
  setup = build.setup(resolved)
  sent = exchange.received(setup, values.case, values.round, values.client)
  archives.write(values.out, convert.to_state_dict(sent))
  same, changed, more = _compared(setup.variables, sent)
  print(
    f'{values.out}: what {setup.attack_name} sends to client '
    f'{values.client} of case {values.case} in round {values.round}: {same} '
    f'tensors as agreed, {changed} others, {more} more'
  )
  return 0


def _compared(agreed, sent) -> tuple[int, int, int]:
  """Returns how many leaves are equal, different, and more than agreed."""
  old, new = (
    {**trees.named_leaves(models.whole(v)), **trees.named_leaves(v.stats)}
    for v in (agreed, sent)
  )
  equal = sum(np.array_equal(new[name], leaf) for name, leaf in old.items())
  return equal, len(old) - equal, len(new) - len(old)


def _flags() -> absl_flags.FlagValues:
  values = flags.values()
  absl_flags.DEFINE_string('out', '', 'The npz to write.', flag_values=values)
  absl_flags.DEFINE_integer(
    'point', None, 'Which setting of a sweep, from 0.', flag_values=values
  )
  texts = {'case': 'Of the config.', 'round': 'Of it.', 'client': 'Of it.'}
  for name, text in texts.items():
    absl_flags.DEFINE_integer(name, 0, text, 0, flag_values=values)
  return values
