"""Tests of giajax.data.letterbox."""

import numpy as np
from PIL import Image
import pytest

from giajax.data import letterbox


@pytest.mark.parametrize(
  ('shape', 'place'),
  [
    ((64, 64), (0, 0, 64, 64)),
    ((32, 64), (16, 0, 32, 64)),
    ((64, 31), (0, 16, 64, 31)),  # of 33 pixels, the second bar has 17
    ((100, 200), (16, 0, 32, 64)),
    ((1, 1000), (31, 0, 1, 64)),
  ],
)
def test_places(shape, place):
  assert letterbox.place(*shape, 64)[:4] == place


def test_bars_are_grey_and_boxes_move_with_the_image():
  image = Image.new('RGB', (20, 10), (0, 0, 0))
  image.paste((255, 0, 0), (5, 5, 15, 10))
  place = letterbox.place(10, 20, 40)
  x = letterbox.pixels(image, place)
  assert x.shape == (40, 40, 3) and x.dtype == np.float32
  np.testing.assert_allclose(x[:10], 114 / 255)
  np.testing.assert_allclose(x[30:], 114 / 255)
  (box,) = letterbox.moved([[0.25, 0.5, 0.75, 1.0]], place)
  np.testing.assert_allclose(box, [0.25, 0.5, 0.75, 0.75])
  left, top, right, bottom = (box * 40).astype(int)
  inside = x[top + 1 : bottom - 1, left + 1 : right - 1]
  np.testing.assert_allclose(inside[..., 0], 1)
  np.testing.assert_allclose(inside[..., 1:], 0)


def test_black_bars():
  place = letterbox.place(10, 20, 32)
  x = letterbox.pixels(Image.new('RGB', (20, 10), (9, 9, 9)), place, fill=0)
  assert x[0].max() == 0 and x[16].min() > 0
