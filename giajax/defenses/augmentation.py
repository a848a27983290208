"""ATS: images are transformed before training, by policies found for privacy.

Gao et al., Privacy-preserving Collaborative Learning with Automatic
Transformation Search, CVPR 2021, arXiv 2011.12505. A policy is a sequence of
operations of AutoAugment (Cubuk et al., CVPR 2019, arXiv 1805.09501), each with
a magnitude from 0 to 9; each image takes one of the policies at random.
`_OPERATIONS` lists the authors' operations, and their scripts name policies by
positions in it (github.com/gaow0007/ATSPrivacy): 3-1-7 and 43-18-18 are those
for ResNet-20 on CIFAR-100. The operations are those of Pillow that the authors'
code calls, but in floating point where Pillow rounds to bytes, and with
bilinear interpolation in the shears. The random crop and flip of the authors'
training do not belong to the defence and are left out. The images of a FedAvg
client are transformed once, and not again in each local step.

The attacker's result is compared with the image before the transformation,
which is what is to be protected.
"""

import functools
import itertools

import dm_pix
import jax
import jax.numpy as jnp

from giajax import types
from giajax.defenses import base


def augmentation(*, policy: str = '3-1-7+43-18-18') -> base.Defense:
  """Transforms each image by one of the policies, drawn at random.

  A server that knows the defence changes nothing, because it does not see the
  draws.

  Args:
    policy: positions in the authors' list, 0 to 49, joined by '-'; several
      policies are joined by '+'.

  Raises:
    ValueError: the policy has another form.
  """
  policies = [_parse(one, policy) for one in policy.split('+')]

  def on_image(key, image):
    choice, signs = jax.random.split(key)
    branches = [functools.partial(_apply, one) for one in policies]
    index = jax.random.randint(choice, (), 0, len(branches))
    return jax.lax.switch(index, branches, signs, image)

  def on_batch(key, batch):
    each = jax.random.split(key, len(batch.x))
    return batch._replace(x=jax.vmap(on_image)(each, batch.x))

  return base.Defense(on_batch=on_batch)


def _parse(text, policy):
  parts = text.split('-')
  if not all(p.isdecimal() and int(p) < len(_OPERATIONS) for p in parts):
    raise ValueError(
      f'Expected positions from 0 to {len(_OPERATIONS) - 1} joined by - and +; '
      f'got policy={policy!r}; write 3-1-7 or 3-1-7+43-18-18'
    )
  return [_OPERATIONS[int(part)] for part in parts]


def _apply(operations, key, image):
  """Applies operations to an image [H, W, C] in [0, 1]."""
  for i, (name, magnitude) in enumerate(operations):
    sign = jax.random.rademacher(jax.random.fold_in(key, i), (), jnp.float32)
    change = _KINDS[name]
    image = jnp.clip(change(image, int(magnitude) / 9, sign), 0, 1)
  return image


def _shear_y(image, part, sign):
  return _resampled(image, ((1, sign * 0.3 * part), (0, 1)), (0, 0), order=1)


def _translate_x(image, part, sign):
  offset = sign * part * 150 / 331 * image.shape[1]
  return _resampled(image, ((1, 0), (0, 1)), (0, offset))


def _translate_y(image, part, sign):
  offset = sign * part * 150 / 331 * image.shape[0]
  return _resampled(image, ((1, 0), (0, 1)), (offset, 0))


def _rotate(image, part, sign):
  """Rotates to the left, whatever the sign; the corners become grey."""
  del sign
  cos, sin = jnp.cos(jnp.pi / 6 * part), jnp.sin(jnp.pi / 6 * part)
  y, x = (image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2
  offset = (y - cos * y - sin * x, x + sin * y - cos * x)
  return _resampled(image, ((cos, sin), (-sin, cos)), offset, fill=128 / 255)


def _resampled(image, matrix, offset, order=0, fill=0.0):
  """Takes pixel (y, x) from matrix @ (y, x) + offset."""
  whole = jnp.eye(3).at[:2, :2].set(jnp.array(matrix, jnp.float32))
  return dm_pix.affine_transform(
    image,
    whole,
    offset=jnp.array((*offset, 0), jnp.float32),
    order=order,
    mode='constant',
    cval=fill,
  )


def _color(image, part, sign):
  return _away(image, _grey(image), part, sign)


def _contrast(image, part, sign):
  return _away(image, _grey(image).mean(), part, sign)


def _brightness(image, part, sign):
  return _away(image, 0.0, part, sign)


def _sharpness(image, part, sign):
  """Moves away from an image smoothed by 3x3 weights, except at its border."""
  h, w, _ = image.shape
  corners = itertools.product(range(3), range(3))
  around = sum(image[i : h - 2 + i, j : w - 2 + j] for i, j in corners)
  inner = (around + 4 * image[1:-1, 1:-1]) / 13
  return _away(image, image.at[1:-1, 1:-1].set(inner), part, sign)


def _away(image, degenerate, part, sign):
  """Moves an image away from, or towards, a degenerate one."""
  return degenerate + (1 + sign * 0.5 * part) * (image - degenerate)


def _grey(image):
  if image.shape[-1] != 3:
    return image.mean(-1, keepdims=True)
  return (image @ jnp.array([0.299, 0.587, 0.114]))[..., None]


def _posterize(image, part, sign):
  del sign
  step = 2.0 ** round(4 * part)
  return jnp.floor(_bytes(image) / step) * step / 255


def _solarize(image, part, sign):
  del sign
  return jnp.where(_bytes(image) < 256 * (1 - part), image, 1 - image)


def _invert(image, part, sign):
  del part, sign
  return 1 - image


def _autocontrast(image, part, sign):
  del part, sign
  least, most = image.min((0, 1)), image.max((0, 1))
  spread = jnp.where(most > least, most - least, 1.0)
  return jnp.where(most > least, (image - least) / spread, image)


def _equalize(image, part, sign):
  del part, sign
  return jax.vmap(_equalized, -1, -1)(image)


def _equalized(channel):
  values = _bytes(channel)
  counts = jnp.bincount(values.reshape(-1), length=256)
  step = (channel.size - counts[values.max()]) // 255
  below = jnp.cumsum(counts) - counts
  table = (step // 2 + below) // jnp.maximum(step, 1)
  return jnp.where(step > 0, jnp.minimum(table[values], 255) / 255, channel)


def _bytes(image: types.Array) -> types.Array:
  return jnp.round(image * 255).astype(jnp.int32)


# `(image, part of the largest magnitude, sign) -> image`.
_KINDS = {
  'autocontrast': _autocontrast,
  'brightness': _brightness,
  'color': _color,
  'contrast': _contrast,
  'equalize': _equalize,
  'invert': _invert,
  'posterize': _posterize,
  'rotate': _rotate,
  'sharpness': _sharpness,
  'shear_y': _shear_y,
  'solarize': _solarize,
  'translate_x': _translate_x,
  'translate_y': _translate_y,
}

# The authors' operations and magnitudes, in their order.
_LIST = """
invert 7, contrast 6, rotate 2, translate_x 9, sharpness 1,
sharpness 3, shear_y 2, translate_y 2, autocontrast 5, equalize 2,
shear_y 5, posterize 5, color 3, brightness 5, sharpness 9,
brightness 9, equalize 5, equalize 1, contrast 7, sharpness 5,
color 5, translate_x 5, equalize 7, autocontrast 8, translate_y 3,
sharpness 6, brightness 6, color 8, solarize 0, invert 0,
equalize 0, autocontrast 0, equalize 8, equalize 4, color 5,
equalize 5, autocontrast 4, solarize 4, brightness 3, color 0,
solarize 1, autocontrast 0, translate_y 3, translate_y 3, autocontrast 1,
solarize 1, equalize 5, invert 0, translate_y 3, autocontrast 1
"""
_OPERATIONS = [entry.split() for entry in _LIST.split(',')]
