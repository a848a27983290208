"""Tests of giajax.defenses.augmentation, against Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from PIL import ImageEnhance
from PIL import ImageOps
import pytest

from giajax import types
from giajax.defenses import augmentation

SIDE = 24


def photograph():
  """Returns an image [24, 24, 3] with edges, in whole bytes."""
  y, x = np.mgrid[:SIDE, :SIDE] / SIDE
  edges = np.where(np.hypot(x - 0.4, y - 0.6) < 0.2, 0.3, 0)
  channels = [0.2 + 0.6 * x * y, 0.5 + 0.4 * np.sin(5 * x + y), 0.3 * y + edges]
  return np.round(255 * np.stack(channels, -1)).astype(np.uint8)


PIXELS = photograph()


def defended(policy, images=8, seed=0):
  x = jnp.broadcast_to(PIXELS / np.float32(255), (images, SIDE, SIDE, 3))
  batch = types.Batch(x, jnp.arange(images))
  change = augmentation.augmentation(policy=policy).on_batch
  found = jax.jit(change)(jax.random.key(seed), batch)
  np.testing.assert_array_equal(found.y, batch.y)
  assert found.x.shape == x.shape and found.x.dtype == x.dtype
  assert found.x.min() >= 0 and found.x.max() <= 1
  return np.asarray(found.x)


def enhanced(kind, part):
  return lambda image, sign: kind(image).enhance(1 + sign * part * 0.5)


def affine(*matrix, resample=Image.Resampling.NEAREST):
  return lambda image, sign: image.transform(
    image.size,
    Image.Transform.AFFINE,
    [sign * m if i in (2, 3, 5) else m for i, m in enumerate(matrix)],
    resample,
  )


def plain(function, *args):
  return lambda image, sign: function(image, *args)


def turned(degrees):
  return lambda image, sign: image.rotate(degrees, fillcolor=(128,) * 3)


MOVED = 150 / 331 * SIDE / 9
BILINEAR = Image.Resampling.BILINEAR
# By position in the authors' list: Pillow's operation, and whether it has a
# sign. Magnitudes run from 0 to 9.
OPERATIONS = {
  0: (plain(ImageOps.invert), False),
  1: (enhanced(ImageEnhance.Contrast, 6 / 9), True),
  2: (turned(30 * 2 / 9), False),
  3: (affine(1, 0, 9 * MOVED, 0, 1, 0), True),
  5: (enhanced(ImageEnhance.Sharpness, 3 / 9), True),
  10: (affine(1, 0, 0, 0.3 * 5 / 9, 1, 0, resample=BILINEAR), True),
  11: (plain(ImageOps.posterize, 6), False),
  15: (enhanced(ImageEnhance.Brightness, 1), True),
  23: (plain(ImageOps.autocontrast), False),
  27: (enhanced(ImageEnhance.Color, 8 / 9), True),
  30: (plain(ImageOps.equalize), False),
  37: (plain(ImageOps.solarize, 256 * 5 / 9), False),
  40: (plain(ImageOps.solarize, 256 * 8 / 9), False),
  48: (affine(1, 0, 0, 0, 1, 3 * MOVED), True),
}


@pytest.mark.parametrize('position', OPERATIONS)
def test_operations_are_pillows(position):
  function, signed = OPERATIONS[position]
  image = Image.fromarray(PIXELS)
  signs = (1, -1) if signed else (1,)
  expected = [np.asarray(function(image, s)) / 255 for s in signs]
  errors = np.array(
    [
      [np.abs(x - e).max(-1).reshape(-1) for e in expected]
      for x in defended(str(position))
    ]
  )
  # Pillow rounds to bytes after each operation and leaves out the border of a
  # shear; the latter are few pixels.
  wrong = (errors > 2.5 / 255).mean(-1)
  assert (wrong.min(1) <= (0.09 if position == 10 else 0)).all()
  # Each sign is drawn for some of the images.
  assert len(set(wrong.argmin(1))) == len(signs)


def test_a_policy_is_a_sequence():
  """Twice inverted is the same; inverted between is not."""
  x = PIXELS / 255
  np.testing.assert_allclose(defended('0-0')[0], x, atol=1e-6)
  np.testing.assert_allclose(defended('0-0-0')[0], 1 - x, atol=1e-6)


def test_images_take_one_of_the_policies():
  found = defended('0+29-0', images=40)
  inverted = np.abs(found - (1 - PIXELS / 255)).max((1, 2, 3)) < 1e-6
  same = np.abs(found - PIXELS / 255).max((1, 2, 3)) < 1e-6
  assert (inverted | same).all()
  assert 8 < inverted.sum() < 32


def test_grey_images_and_keys():
  x = jnp.broadcast_to(PIXELS[..., :1] / np.float32(255), (6, SIDE, SIDE, 1))
  change = augmentation.augmentation().on_batch
  batch = types.Batch(x, jnp.zeros(6, jnp.int32))
  first, again, other = (
    np.asarray(change(jax.random.key(seed), batch).x) for seed in (0, 0, 1)
  )
  assert first.shape == x.shape
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - other).max() > 0.05


@pytest.mark.parametrize('policy', ['', '50', '3-', '3,1', '-1', '3-1+', 'a'])
def test_bad_policies(policy):
  with pytest.raises(ValueError, match='positions from 0 to 49'):
    augmentation.augmentation(policy=policy)
