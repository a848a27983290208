"""Tests of giajax.images."""

import numpy as np
import pytest

from giajax import images


def test_to_uint8_rounds_to_nearest_and_clips():
  x = np.array([0, 0.5, 1, 254.6 / 255, -3, 7, np.nan, np.inf])
  expected = [0, 128, 255, 255, 0, 255, 0, 255]
  np.testing.assert_array_equal(images.to_uint8(x), expected)
  assert images.to_uint8(x).dtype == np.uint8


def test_to_uint8_inverts_bytes():
  values = np.arange(256)
  np.testing.assert_array_equal(
    images.to_uint8(values.astype(np.float32) / 255), values
  )


def test_grid_places_images_row_by_row_on_white():
  stack = np.stack([np.full((2, 3, 1), v) for v in (0.1, 0.2, 0.3)])
  out = images.grid(stack, columns=2, padding=1)
  assert out.shape == (2 * 3 + 1, 2 * 4 + 1, 1)
  np.testing.assert_allclose(out[1:3, 1:4], 0.1)
  np.testing.assert_allclose(out[1:3, 5:8], 0.2)
  np.testing.assert_allclose(out[4:6, 1:4], 0.3)
  np.testing.assert_array_equal(out[4:6, 5:8], 1)  # the empty cell
  np.testing.assert_array_equal(out[:, [0, 4, 8]], 1)


def test_grid_without_padding_is_a_reshape():
  stack = np.random.default_rng(0).random((4, 2, 2, 3), np.float32)
  out = images.grid(stack, columns=1, padding=0)
  np.testing.assert_array_equal(out, stack.reshape(8, 2, 3))


@pytest.mark.parametrize(
  ('shape', 'columns', 'padding'),
  [((0, 2, 2, 1), 1, 0), ((2, 2, 1), 1, 0), ((1, 2, 2, 1), 0, 0)],
)
def test_grid_refuses_impossible_layouts(shape, columns, padding):
  with pytest.raises(ValueError, match='Expected'):
    images.grid(np.zeros(shape), columns, padding)


def test_check_range_accepts_the_closed_interval():
  images.check_range(np.array([0.0, 1.0]), 'x')


@pytest.mark.parametrize('bad', [-1e-3, 1.001, np.nan, np.inf])
def test_check_range_names_what_is_wrong(bad):
  with pytest.raises(ValueError, match=r'photo in \[0, 1\].*1 of 2'):
    images.check_range(np.array([0.5, bad]), 'photo')
