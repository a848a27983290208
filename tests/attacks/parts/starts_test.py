"""Tests of giajax.attacks.parts.starts."""

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from giajax.attacks.parts import starts

SHAPE = (2, 6, 5, 3)


def draw(text, key=0, shape=SHAPE, side=(), **hp):
  """Returns a start in a space whose images are twice as large."""

  class Seen:
    pass

  seen = Seen()
  seen.side = dict(side)
  start = starts.parse(text, shape[1:])
  return np.asarray(
    start.draw(jax.random.key(key), shape, lambda x: 2 * x, seen, hp)
  )


# A text for every row.
TEXTS = {
  'normal': 'normal',
  'uniform': 'uniform',
  'zeros': 'zeros',
  'tiled': 'tiled:4',
  'coarse': 'coarse:4',
  'colour': 'colour:blue',
  'image': 'image:{folder}/a.png',
  'target': 'target',
}


def test_every_row_has_a_text():
  assert set(TEXTS) == set(starts.STARTS)


@pytest.mark.parametrize('name', sorted(starts.STARTS))
def test_a_start_is_a_finite_batch(name, tmp_path):
  Image.new('RGB', (7, 5)).save(tmp_path / 'a.png')
  shape = (2, 6, 6, 3)
  x = draw(
    TEXTS[name].format(folder=tmp_path),
    shape=shape,
    side={'target': jnp.ones(shape)},
    noised_fraction=0.5,
  )
  assert x.shape == shape and x.dtype == np.float32
  assert np.isfinite(x).all()


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('noise', 'known start .*tiled'),
    ('normal:3', 'without an argument'),
    ('target:0.5', 'without an argument'),
    ('tiled', "start='tiled:4'; got start='tiled:'"),
    ('tiled:0', 'whole number >= 1'),
    ('coarse:two', 'whole number >= 1'),
    ('colour:reed', "did you mean 'red'"),
    ('image:/nowhere.png', 'square images'),
  ],
)
def test_mistakes_are_named(text, words):
  with pytest.raises(ValueError, match=f'^Expected .*{words}'):
    starts.parse(text, SHAPE[1:])


def test_an_image_that_is_not_there():
  with pytest.raises(ValueError, match=r'readable image; got /nowhere\.png'):
    starts.parse('image:/nowhere.png', (5, 5, 3))


def test_tiles_repeat():
  x = draw('tiled:2')
  np.testing.assert_array_equal(x[:, :2, :2], x[:, 2:4, 2:4])
  np.testing.assert_array_equal(x[:, :2, :1], x[:, 4:, 4:])
  # Four different pixels, and different images.
  assert len(np.unique(x)) == 2 * 2 * 2 * 3
  np.testing.assert_array_equal(draw('tiled:9')[:, :2, :2].shape, (2, 2, 2, 3))


def test_coarse_is_flat_in_blocks():
  x = draw('coarse:2')
  np.testing.assert_array_equal(x[:, 0::2], x[:, 1::2])
  np.testing.assert_array_equal(x[:, :, 0:4:2], x[:, :, 1:4:2])
  assert len(np.unique(x)) == 2 * 3 * 3 * 3


@pytest.mark.parametrize('text', ['normal', 'uniform', 'tiled:3', 'coarse:2'])
def test_noise_is_of_the_key(text):
  np.testing.assert_array_equal(draw(text), draw(text))
  assert np.abs(draw(text) - draw(text, key=1)).max() > 0.1


def test_colours_are_in_the_space_of_optimisation():
  for name, rgb in (('red', (2, 0, 0)), ('white', (2, 2, 2))):
    expected = np.broadcast_to(np.float32(rgb), SHAPE)
    np.testing.assert_array_equal(draw(f'colour:{name}'), expected)
  grey = draw('colour:red', shape=(1, 4, 4, 1))
  np.testing.assert_allclose(grey, np.full((1, 4, 4, 1), 2 / 3), rtol=1e-6)


def test_an_image_from_a_file(tmp_path):
  pixels = np.arange(75, dtype=np.uint8).reshape(5, 5, 3)
  Image.fromarray(pixels).save(tmp_path / 'a.png')
  x = draw(f'image:{tmp_path / "a.png"}', shape=(2, 5, 5, 3))
  for image in x:
    np.testing.assert_allclose(image, 2 * pixels / 255, rtol=1e-6)


def test_a_part_of_the_truth():
  shape = (4, 32, 32, 3)
  truth = jnp.full(shape, 7.0)
  kept = {}
  for p in (0.0, 0.25, 0.75, 1.0):
    x = draw('target', shape=shape, side={'target': truth}, noised_fraction=p)
    same = x == 14
    # A pixel's channels are replaced together.
    np.testing.assert_array_equal(same.all(-1), same.any(-1))
    kept[p] = same[..., 0]
    np.testing.assert_allclose(1 - kept[p].mean(), p, atol=0.03)
    if p:
      assert abs(x[~same].mean()) < 0.1 and abs(x[~same].std() - 1) < 0.1
  assert kept[0.0].all() and not kept[1.0].any()
  assert not (kept[0.75] & ~kept[0.25]).any()
  assert starts.parse('target', shape[1:]).needs == {'target'}
