"""Writes the weights that a server sends, so that a client can check them.

  giajax craft --config=NAME --out=FILE.npz [--case=0] [--round=0] [--client=0]
    [--point=N]

The server of the config is run up to a round, the first one by default, and the
weights that one client of a case receives in that round are written, with every
layer that the attack adds. An honest server sends the agreed weights. `giajax
verify --received=FILE.npz` reads the file.
"""

import numpy as np

from giajax import archives
from giajax import printable
from giajax import trees
from giajax import types
from giajax.commands import configs
from giajax.commands import flags
from giajax.engine import build
from giajax.engine import exchange
from giajax.engine import program
from giajax.engine import sweep
from giajax.models import base as models
from giajax.models import convert

USAGE = 'giajax craft --config=NAME --out=FILE.npz'
FLAGS = (
  flags.CONFIG,
  flags.OUT,
  flags.POINT,
  flags.CASE,
  flags.Flag('round', 'The round of communication, from 0.', 0, int, 0),
  flags.Flag('client', 'The client of the aggregate, from 0.', 0, int, 0),
)


@program.memory()
def run(arguments: flags.Arguments) -> int:
  """Writes what a server sends, and prints how it differs from the agreed."""
  values = arguments.values
  config = configs.load(arguments)
  archives.check(values.out)
  resolved = dict(sweep.only(config, values.point).config)
  setup = build.setup(resolved)
  sent = exchange.received(setup, values.case, values.round, values.client)
  archives.write(values.out, convert.to_state_dict(sent))
  same, changed, added = _compared(setup.variables, sent)
  said = (
    f'{values.out}: what {setup.attack_name} sends to client '
    f'{values.client} of case {values.case} in round {values.round}: {same} '
    f'tensors as agreed, {changed} changed, {added} added'
  )
  print(printable.line(said))
  return 0


def _compared(
  agreed: types.Variables, sent: types.Variables
) -> tuple[int, int, int]:
  """Returns how many leaves are equal, different, and more than agreed."""
  old, new = (
    {**trees.named_leaves(models.whole(v)), **trees.named_leaves(v.stats)}
    for v in (agreed, sent)
  )
  equal = sum(np.array_equal(new[name], leaf) for name, leaf in old.items())
  return equal, len(old) - equal, len(new) - len(old)
