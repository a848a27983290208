"""A change since the last accepted model that lies along all directions.

A gradient of a linear layer is a sum of outer products, one an image, and
images have much in common: what honest training adds to the first linear layer
lies along few directions, also after hundreds of steps. Weights that a server
draws lie along all of them, however little of them is mixed with the agreed
ones. With E [inputs, units] the change of that layer's kernel, less its
projection on the kernel itself, which weight decay would change, and s_1 >= s_2
>= ... >= s_n its singular values, the score is

  sum_{i > n / 4} s_i^2 / sum_i s_i^2,

the share of the change that the best quarter of the directions leaves: 0 where
a few images made it, towards 3/4 for random numbers.

Honest rounds of 1 to 20 steps have up to 0.02 (`python -m
giajax.verify.calibration.thresholds`).
The threshold is above what was found by hand between checkpoints of MLPs two
epochs apart, up to 0.08, as a client may have missed rounds; two hundred steps
of Adam had up to 0.04.

It needs the last accepted weights. Changes below a millionth of the weights are
rounding, and are passed over. It does not see changes of low rank, such as rows
of bins, of biases alone, or spread over so many rounds that each is small
beside an honest one; and it objects to weights that went through half precision
on the way.
"""

import numpy as np

from giajax import trees
from giajax import types
from giajax.models import base as models
from giajax.verify import base

_UNITS = 256  # looked at, drawn
_ROUNDING = 1e-6
_TINY = 1e-30


def update_rank(view: base.View, *, threshold: float = 0.1) -> base.Verifier:
  """The directions that the first linear layer's change lies along.

  Args:
    view: what the client knows.
    threshold: share of the change, see above.
  """
  path = base.reader(view.net)

  def verify(
    key: types.Array, message: types.ServerMessage, probe: types.Batch
  ) -> base.Verdict:
    del probe
    if path is None:
      return base.NO_READER
    pair = base.change(view, message)
    if isinstance(pair, base.Verdict):
      return pair
    before, after = (_kernel(v, path) for v in pair)
    units = base.drawn(key, before.shape[1], _UNITS)
    before = before[:, units]
    change = after[:, units] - before
    size = np.sum(np.square(before))
    change -= before * (np.sum(change * before) / max(size, _TINY))
    moved = np.sum(np.square(change))
    if moved <= _ROUNDING**2 * size:
      return base.not_run(f'{path} did not change.')
    # Of the smaller side, the squares of the singular values, from the least.
    rows = change if change.shape[0] < change.shape[1] else change.T
    squares = np.linalg.eigvalsh(rows @ rows.T)
    count = len(squares) - max(1, len(squares) // 4)
    return base.verdict(
      np.maximum(squares[:count].sum() / squares.sum(), 0.0),
      threshold,
      '{name} changed along all directions: {score} of the change is outside '
      'the quarter of them that holds most (limit {limit}).',
      name=path,
    )

  return verify


def _kernel(variables: types.Variables, path: str) -> np.ndarray:
  leaves = trees.named_leaves(models.whole(variables))
  return np.asarray(leaves[f'{path}.kernel'], float)
