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


def test_check_range_accepts_the_closed_interval():
  images.check_range(np.array([0.0, 1.0]), 'x')


@pytest.mark.parametrize('bad', [-1e-3, 1.001, np.nan, np.inf])
def test_check_range_names_what_is_wrong(bad):
  with pytest.raises(ValueError, match=r'photo in \[0, 1\].*1 of 2'):
    images.check_range(np.array([0.5, bad]), 'photo')
