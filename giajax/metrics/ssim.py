"""Structural similarity.

  SSIM = mean over windows and channels of
         (2 mu_a mu_b + c1) (2 s_ab + c2)
         / ((mu_a^2 + mu_b^2 + c1) (s_a^2 + s_b^2 + c2))

Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error
visibility to structural similarity", IEEE TIP 2004, as `dm_pix` computes it:
Gaussian window of sigma 1.5, c1 = .01^2, c2 = .03^2, windows that are entirely
inside the image. Works under jit and vmap; a NaN stays a NaN.
"""

import dm_pix
import jax
import jax.numpy as jnp

from giajax import types
from giajax.metrics import base

WINDOW = 11  # side of the window in pixels


def ssim(
  a: jax.typing.ArrayLike, b: jax.typing.ArrayLike, *, span: float = 1.0
) -> types.Array:
  """Returns the structural similarity, [...] float32 in [-1, 1].

  The value is the mean over the channels. In an image whose shorter side is
  below `WINDOW`, the window is the largest odd one that fits, so its value is
  comparable only with those of images of that size. Of a single pixel, which is
  a row of a table, it is NaN.

  Args:
    a: [..., H, W, C] in [0, 1].
    b: as `a`, or broadcastable to it.
    span: the range that c1 and c2 are shares of.

  Raises:
    ValueError: images of integers, or shapes that do not fit.
  """
  return jnp.mean(local(a, b, span=span), axis=(-3, -2, -1))


def local(
  a: jax.typing.ArrayLike, b: jax.typing.ArrayLike, *, span: float = 1.0
) -> types.Array:
  """Returns the similarity of each window and channel, [..., h, w, C].

  Windows are entirely inside: the first one's centre is as far from the corner
  of the image as half a window.

  Args:
    a: as for `ssim`, like `b` and `span`.
    b: images.
    span: the range.

  Raises:
    ValueError: as `ssim`.
  """
  a, b = base.pair(a, b)
  if a.shape[-3:-1] == (1, 1):
    return jnp.full(a.shape, jnp.nan, a.dtype)
  side = min(*a.shape[-3:-1], WINDOW)
  flat = (-1, *a.shape[-3:])
  values = dm_pix.ssim(
    a.reshape(flat),
    b.reshape(flat),
    max_val=span,
    filter_size=side - (side + 1) % 2,
    return_map=True,
  )
  return jnp.reshape(values, (*a.shape[:-3], *jnp.shape(values)[1:]))


SSIM = base.Metric(
  name='ssim',
  label='SSIM',
  unit='',
  form='.3f',
  meaning='Similarity of local brightness, contrast and structure; 1 for equal '
  'images.',
  source='Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 2004',
  needs=base.IMAGES,
  score=ssim,
)
