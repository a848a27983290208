"""Patch consistency: images go on across the borders of patches.

  P(x) = mean over (B, borders, pixels along them, C) of |x_after - x_before|^2

of the normalised image, over the pixels on both sides of each border between
patches of a ViT. Hatamizadeh et al., GradViT: Gradient Inversion of Vision
Transformers, CVPR 2022, arXiv 2203.11894 (there as norms of whole borders; here
the mean square, so that its weight does not depend on the image size).
"""

import jax.numpy as jnp

from giajax import require
from giajax import types
from giajax import world as worlds
from giajax.models import base as models
from giajax.priors import base


def patch(world: worlds.World, *, size: int = 4) -> base.Term:
  """The normalised image goes on across the borders of patches.

  Args:
    world: the attacker's picture of the system, for the normalisation.
    size: the side of a patch; images of one patch have no border.

  Raises:
    ValueError: a size below 1.
  """
  require.whole(size, 'size', advice='use the side of a patch of the network')
  spec = world.net.spec

  def value(key, batch, aux, obs):
    del key, aux, obs
    x = models.normalise(batch.x, spec)
    squares = [jnp.square(_steps(x, axis, size)) for axis in (1, 2)]
    count = sum(s.size for s in squares)
    return sum((s.sum() for s in squares), jnp.zeros(())) / max(count, 1)

  return base.Term(value)


def _steps(x: types.Array, axis: int, size: int) -> types.Array:
  """Returns the differences across the borders along an axis."""
  between = [slice(None)] * x.ndim
  between[axis] = slice(size - 1, None, size)
  return jnp.diff(x, axis=axis)[tuple(between)]
