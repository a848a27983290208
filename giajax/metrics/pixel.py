"""Pixel-wise metrics on [0, 1]: MSE, PSNR and SSIM.

  MSE  = mean (a - b)^2
  PSNR = -10 log10 MSE                                                 (dB)
  SSIM = mean over windows and channels of
         (2 mu_a mu_b + c1) (2 s_ab + c2)
         / ((mu_a^2 + mu_b^2 + c1) (s_a^2 + s_b^2 + c2))

SSIM is that of Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment:
from error visibility to structural similarity", IEEE TIP 2004, as `dm_pix`
computes it: Gaussian window of sigma 1.5, c1 = .01^2, c2 = .03^2, windows that
lie wholly inside the image. All work under jit and vmap; a NaN stays a NaN.
"""

import dm_pix
import jax
import jax.numpy as jnp

from giajax import types
from giajax.metrics import base

# The PSNR in dB of an exact match, which would be infinite: mse <= 1e-10,
# three thousandths of a grey level, counts as exact.
PSNR_CAP = 100.0
SSIM_WINDOW = 11  # side of the window in pixels


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


def psnr(a: jax.typing.ArrayLike, b: jax.typing.ArrayLike) -> types.Array:
  """Returns the peak signal-to-noise ratio in dB, [...] float32.

  At most `PSNR_CAP`; decreases with the MSE.

  Args:
    a: [..., H, W, C] in [0, 1].
    b: as `a`, or broadcastable to it.

  Raises:
    ValueError: images of integers, or shapes that do not fit.
  """
  floor = 10 ** (-PSNR_CAP / 10)
  return -10 * jnp.log10(jnp.maximum(mse(a, b), floor))


def ssim(a: jax.typing.ArrayLike, b: jax.typing.ArrayLike) -> types.Array:
  """Returns the structural similarity, [...] float32 in [-1, 1].

  The mean over channels, for grey images that of the only one. In an image
  whose shorter side is below `SSIM_WINDOW`, the window is the largest odd one
  that fits, which makes the value comparable among images of that size only.

  Args:
    a: [..., H, W, C] in [0, 1].
    b: as `a`, or broadcastable to it.

  Raises:
    ValueError: images of integers, or shapes that do not fit.
  """
  a, b = base.pair(a, b)
  side = min(*a.shape[-3:-1], SSIM_WINDOW)
  flat = (-1, *a.shape[-3:])
  values = dm_pix.ssim(
    a.reshape(flat), b.reshape(flat), filter_size=side - (side + 1) % 2
  )
  return jnp.reshape(values, a.shape[:-3])


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

SSIM = base.Metric(
  name='ssim',
  label='SSIM',
  unit='',
  form='.3f',
  meaning='Likeness of local brightness, contrast and structure; 1 for equal '
  'images.',
  source='Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 2004',
  needs=base.IMAGES,
  score=ssim,
)
