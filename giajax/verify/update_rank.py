"""A change since the last accepted model that is spread over all directions.

A gradient of a linear layer is a sum of outer products, one an image, and
images have much in common: what honest training adds to the first linear layer
lies along few directions, even after hundreds of steps. Weights that a server
draws lie along all of them. With E the change of that layer's kernel, less its
projection on the kernel itself, which weight decay or another scale would
change, the score is

  (r - 1) / (n - 1),  r = |E|_F^4 / |E' E|_F^2,

where r is the effective number of directions (the participation ratio of the
squared singular values) and n the most there can be: 0 where one image made the
change, near 1 for random numbers. It needs no scale, so that weights of a
server that are mixed with the agreed ones still show.

Honest rounds of 1 to 20 steps have up to 0.04, and MLPs two epochs of SGD with
momentum and weight decay apart up to 0.12, at which the threshold is set: a
client may have missed rounds. A hundred steps of Adam had up to 0.04, too.

It needs the last accepted weights. Changes below a millionth of the weights are
rounding, and are passed over. It does not see low-rank changes, such as rows of
bins; and weights that were stored in half precision on the way are objected to.
"""

import numpy as np

from giajax import trees
from giajax import types
from giajax.models import base as models
from giajax.verify import base

_UNITS = 256  # looked at, drawn
_ROUNDING = 1e-6
_TINY = 1e-30


def update_rank(view: base.View, *, threshold: float = 0.15) -> base.Verifier:
  """The number of directions of the first linear layer's change.

  Args:
    view: what the client knows.
    threshold: between 0, one direction, and 1, all.
  """
  path = base.reader(view.net)

  def verify(
    key: types.Array, query: types.Query, probe: types.Batch
  ) -> base.Verdict:
    del probe
    if view.accepted is None:
      return base.not_run('There are no weights accepted before.')
    if path is None:
      return base.NO_READER
    new, old = base.runnable(view, query), view.accepted
    if new is None or (old := base.taken(old, new)) is None:
      return base.NOT_RUN
    after, before = (_kernel(v, path) for v in (new, old))
    units = base.drawn(key, before.shape[1], _UNITS)
    before = before[:, units]
    change = after[:, units] - before
    size = np.sum(np.square(before))
    change -= before * (np.sum(change * before) / max(size, _TINY))
    moved = np.sum(np.square(change))
    most = min(change.shape)
    if moved <= _ROUNDING**2 * size or most < 2:
      return base.not_run(f'{path} did not change.')
    rank = moved**2 / np.sum(np.square(change.T @ change))
    return base.verdict(
      np.maximum((rank - 1) / (most - 1), 0.0),
      threshold,
      '{name} changed along {rank:.3g} of {most} directions: {score} between '
      'one and all (limit {limit}).',
      name=path,
      rank=rank,
      most=most,
    )

  return verify


def _kernel(variables: types.Variables, path: str) -> np.ndarray:
  leaves = trees.named_leaves(models.whole(variables))
  return np.asarray(leaves[f'{path}.kernel'], float)
