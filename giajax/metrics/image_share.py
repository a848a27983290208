"""Image share: how much of an update depends on the image at all.

  s = 1 - cos(u, v) = |u / |u| - v / |v||^2 / 2

u is what the client computes of its batch, before any defence, and v what it
computes of images of uniform noise in [0, 1] with the same targets, under the
weights that it received and with the same random draws. Where s is 1, the
update of the batch has nothing in common with that of noise; where it is 0, the
update is that of the targets alone, and no attack finds an image in it. It is a
square: updates that differ by a thousandth of their length have s = 5e-7. It is
above 1 where the two point away from each other.

Formed as a difference of unit vectors, in float64, s keeps its digits however
small it is. What the client computed in float32 was rounded before: values of
about 1e-12 and less may be rounding. The cosine itself, as attacks compute it
in float32, is rounded at 1e-7, but the slope that they follow is not. Ours.
"""

from collections.abc import Callable, Mapping

import jax
import numpy as np

from giajax import trees
from giajax import types
from giajax.metrics import base

_Vectors = Mapping[str, np.ndarray]


def image_share(u: types.Tree, v: types.Tree) -> float:
  """Returns 1 - cos(u, v), in [0, 2]; NaN where one of them is zero.

  Args:
    u: an update, a tree of arrays.
    v: another one of the same structure.
  """
  a, b = (_unit(trees.named_leaves(tree)) for tree in (u, v))
  return sum(float(np.square(a[name] - b[name]).sum()) for name in a) / 2


def prepare(
  audited: base.Audited, asked: bool
) -> Callable[[base.History, types.Tree, types.Batch, types.Array], np.ndarray]:
  """Share of the update that depends on the image."""
  del asked

  @jax.jit
  def update(message, batch):
    return audited.client.update(jax.random.key(0), message, batch)[0].delta

  def score(history, stats, batch, noise):
    message = history[-1].message  # attacks use what came back last
    message = message._replace(
      variables=message.variables._replace(stats=stats)
    )
    pair = (update(message, batch._replace(x=x)) for x in (batch.x, noise))
    return np.full(len(batch.x), image_share(*pair), np.float32)

  return score


def _unit(leaves: _Vectors) -> _Vectors:
  """Returns arrays of length 1 together; NaN if they are zero."""
  wide = {name: np.asarray(leaf, np.float64) for name, leaf in leaves.items()}
  norm = np.sqrt(sum(np.square(leaf).sum() for leaf in wide.values()))
  return {name: leaf / (norm or np.nan) for name, leaf in wide.items()}


SHARE = base.Metric(
  name='image_share',
  label='share of the image',
  unit='',
  form='.2g',
  meaning='One minus the cosine between the undefended update and that of '
  'noise with the same targets; 0 if it says nothing of its image.',
  source='',
  needs=('history', 'received_stats', 'batch', 'noise'),
  prepare=prepare,
  about='batch',
)
