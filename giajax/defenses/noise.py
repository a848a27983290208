"""Noise of a fixed scale on every entry of the update's delta.

Zhu, Liu and Han, Deep Leakage from Gradients, NeurIPS 2019, arXiv 1906.08935,
section 5.1, compare Gaussian and Laplace noise of the same variance. Without
clipping neither carries a privacy guarantee. BatchNorm buffers leave the client
as they are.
"""

from collections.abc import Callable
import math

import jax

from giajax import keys
from giajax import require
from giajax import types
from giajax.defenses import base


def gaussian_noise(*, scale: float) -> base.Defense:
  """Adds N(0, scale^2) to every entry of the update's delta.

  Args:
    scale: standard deviation, in units of the delta, >= 0.

  Raises:
    ValueError: a scale that is negative or not finite.
  """
  return _noise('gaussian_noise', scale, keys.normal, 1.0)


def laplace_noise(*, scale: float) -> base.Defense:
  """Adds Laplace noise of standard deviation `scale` to every entry.

  Args:
    scale: standard deviation, in units of the delta, >= 0; the b of the
      density exp(-|x| / b) / 2b is `scale / sqrt(2)`.

  Raises:
    ValueError: a scale that is negative or not finite.
  """

  def draw(key, shape):
    return jax.random.laplace(key, (math.prod(shape),)).reshape(shape)

  return _noise('laplace_noise', scale, draw, math.sqrt(2))


def _noise(
  name: str,
  scale: float,
  draw: Callable[[types.Array, tuple[int, ...]], types.Array],
  deviation: float,
) -> base.Defense:
  """Adds draws to every entry of the update's delta.

  Args:
    name: the name of the row, from which the keys of its draws are derived.
    scale: the standard deviation to reach.
    draw: `(key, shape) -> array`; the key is consumed.
    deviation: the standard deviation of what `draw` returns.
  """
  require.not_negative(scale, 'scale', advice='use 0 for no noise')

  def change(key, leaf):
    return leaf + scale / deviation * draw(key, leaf.shape)

  return base.Defense(on_client=base.on_leaves(change, name))
