"""A change since the last accepted model that is spread over all directions.

A gradient of a linear layer is a sum of outer products, one per image, and
images have much in common. What honest training adds to the first linear layer
therefore lies along few directions, even after hundreds of steps. Weights that
a server draws lie along all directions, however small the share that is mixed
into the agreed weights. With E [inputs, units] the change of that layer's
kernel, less its projection on the kernel itself, which weight decay would
change, and s_1 >= s_2 >= ... >= s_n its singular values, the score is

  sum_{i > n / 4} s_i^2 / sum_i s_i^2,

the share of the change outside the best quarter of the directions, between 0
and 1: 0 if a few images made the change, and up to about 3/4 for random
numbers.

Honest rounds of 1 to 20 steps have up to 0.02 (`python -m
giajax.verify.calibration.thresholds`). A client may have missed rounds: between
checkpoints of MLPs that are two epochs apart the score was up to 0.08, and
after two hundred steps of Adam up to 0.04. The threshold, set by hand, is above
both.

The rank of the change is a rule of this package, without a paper behind it. The
check does not run without the weights that were accepted last. Changes below a
millionth of the weights are rounding, and are passed over. It does not see
changes of low rank, such as rows of bins, changes of biases alone, or changes
spread over so many rounds that each is small compared with an honest one; and
it objects to weights that were converted to half precision on the way.
"""

import numpy as np

from giajax import trees
from giajax import types
from giajax.models import base as models
from giajax.verify import base
from giajax.verify.parts import passes
from giajax.verify.parts import weights

_UNITS = 256  # the number of units that are drawn
_ROUNDING = 1e-6
_TINY = 1e-30


def update_rank(view: base.View, *, threshold: float = 0.1) -> base.Verifier:
  """The directions that the first linear layer's change lies along.

  Args:
    view: what the client knows.
    threshold: the largest share of the change that is accepted, see above.
  """
  path = passes.reader(view.net)

  def verify(
    key: types.Array, message: types.ServerMessage, probe: types.Batch
  ) -> base.Verdict:
    del probe
    if path is None:
      return base.NO_READER
    pair = weights.change(view, message)
    if isinstance(pair, base.Verdict):
      return pair
    before, after = (_kernel(v, path) for v in pair)
    units = weights.sample(key, before.shape[1], _UNITS)
    before = before[:, units]
    change = after[:, units] - before
    size = np.sum(np.square(before))
    change -= before * (np.sum(change * before) / max(size, _TINY))
    moved = np.sum(np.square(change))
    if moved <= _ROUNDING**2 * size:
      return base.not_run(f'{path} did not change.')
    return base.verdict(
      _share_left(change),
      threshold,
      '{name} changed along all directions: {score} of the change is outside '
      'the quarter of them that holds most (limit {limit}).',
      name=path,
    )

  return verify


def _share_left(change: np.ndarray) -> float:
  """Returns the share outside the best quarter of a matrix's directions."""
  rows = change if change.shape[0] < change.shape[1] else change.T
  squares = np.linalg.eigvalsh(rows @ rows.T)  # of singular values, ascending
  count = len(squares) - max(1, len(squares) // 4)
  return max(0.0, float(squares[:count].sum() / squares.sum()))


def _kernel(variables: types.Variables, path: str) -> np.ndarray:
  leaves = trees.named_leaves(models.whole(variables))
  return np.asarray(leaves[f'{path}.kernel'], float)
