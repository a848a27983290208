"""Mean squared error of the pixels.

  MSE = mean (a - b)^2

Works under jit and vmap; a NaN stays a NaN.
"""

import jax
import jax.numpy as jnp

from giajax import types
from giajax.metrics import base


def mse(a: jax.typing.ArrayLike, b: jax.typing.ArrayLike) -> types.Array:
  """Returns the mean squared error of each pair, [...] float32.

  Args:
    a: [..., H, W, C] in [0, 1].
    b: as `a`, or broadcastable to it.

  Raises:
    ValueError: images of integers, or shapes that do not fit.
  """
  a, b = base.pair(a, b)
  return jnp.mean((a - b) ** 2, axis=(-3, -2, -1))


MSE = base.Metric(
  name='mse',
  label='MSE',
  unit='',
  form='.3g',
  meaning='Mean squared error of the pixels in [0, 1].',
  source='',
  needs=base.IMAGES,
  score=mse,
  higher_is_better=False,
)
