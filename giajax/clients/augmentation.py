"""Augmentation as in training: flips, and crops of the zero-padded image.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv
1512.03385, section 4.2: padded by an eighth of the side (4 pixels of 32).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from giajax import keys
from giajax import types


def augmenter(
  augment: bool,
) -> Callable[[types.Array, types.Array], types.Array]:
  """Returns `(key, x) -> x`: what a client sees of its images.

  Args:
    augment: whether the images are flipped and cropped. The key is not
      consumed.
  """
  if not augment:
    return lambda key, x: x
  return lambda key, x: flip_and_crop(keys.named(key, 'augment'), x)


def flip_and_crop(key: types.Array, x: types.Array) -> types.Array:
  """Returns images flipped at random and moved by up to an eighth of a side.

  Each image has its own draws. The move fills the border with zeros (black).

  Args:
    key: consumed.
    x: [B, H, W, C] in [0, 1].
  """
  b, height, width, channels = x.shape
  flip_key, row_key, column_key = jax.random.split(key, 3)
  flipped = jax.random.bernoulli(flip_key, shape=(b, 1, 1, 1))
  x = jnp.where(flipped, x[:, :, ::-1], x)
  reach = (height // 8, width // 8)
  rows, columns = (
    jax.random.randint(k, (b,), 0, 2 * r + 1)
    for k, r in zip((row_key, column_key), reach)
  )
  padded = jnp.pad(x, ((0, 0), (reach[0],) * 2, (reach[1],) * 2, (0, 0)))

  def crop(image, row, column):
    start = (row, column, 0)
    return jax.lax.dynamic_slice(image, start, (height, width, channels))

  return jax.vmap(crop)(padded, rows, columns)
