"""Peak signal-to-noise ratio.

  PSNR = -10 log10 MSE                                                 (dB)

The peak is 1. Works under jit and vmap; a NaN stays a NaN.
"""

import jax
import jax.numpy as jnp

from giajax import types
from giajax.metrics import base
from giajax.metrics import mse

# The PSNR in dB of an exact match, which would be infinite: mse <= 1e-10,
# three thousandths of a grey level, counts as exact.
CAP = 100.0


def psnr(a: jax.typing.ArrayLike, b: jax.typing.ArrayLike) -> types.Array:
  """Returns the peak signal-to-noise ratio in dB, [...] float32.

  At most `CAP`; decreases with the MSE.

  Args:
    a: [..., H, W, C] in [0, 1].
    b: as `a`, or broadcastable to it.

  Raises:
    ValueError: images of integers, or shapes that do not fit.
  """
  floor = 10 ** (-CAP / 10)
  return -10 * jnp.log10(jnp.maximum(mse.mse(a, b), floor))


PSNR = base.Metric(
  name='psnr',
  label='PSNR',
  unit='dB',
  form='.2f',
  meaning='Squared error of the pixels on a logarithmic scale: higher is '
  'closer, and three decibels more mean half the error.',
  source='',
  needs=base.IMAGES,
  score=psnr,
)
