"""Tests of giajax.metrics.regions: answers known by hand."""

import numpy as np
import pytest

from giajax.data import letterbox
from giajax.metrics import METRICS
from giajax.metrics import regions
from giajax.metrics import ssim
from giajax.tasks.parts import objects
from tests.metrics import scoring_test

RNG = np.random.default_rng(0)


def test_pixels_in_any_box_count_once():
  x = np.zeros((2, 4, 4, 1), np.float32)
  guess = x.copy()
  guess[0, :2, :2] = 0.1  # in the first box
  guess[0, 3, 3] = 1.0  # in none
  boxes = np.array([[[0, 0, 0.5, 0.5], [0.25, 0, 0.5, 1], [0, 0, 1, 1]]] * 2)
  valid = np.array([[True, True, False], [False] * 3])
  y = objects.Objects(boxes, np.zeros((2, 3), int), valid)
  inside = regions.of_boxes(y, (4, 4))
  assert inside[0].sum() == 6 and not inside[1].any()
  found = regions.psnr_in(x, guess, inside)
  # Four pixels of .01 among the 4 + 4 - 2 of both boxes.
  np.testing.assert_allclose(found[0], -10 * np.log10(4 * 0.01 / 6), rtol=1e-5)
  assert np.isnan(found[1])
  # All of that lies nearer to the corner than half a window.
  small = RNG.uniform(size=(1, 12, 12, 3)).astype(np.float32)
  corner = np.zeros((1, 12, 12), bool)
  corner[:, :5] = True
  assert np.isnan(regions.ssim_in(small, small, corner))


def test_the_content_is_what_no_bar_covers():
  place = letterbox.place(20, 40, 32)
  content = np.array([place.corners, (0, 0, 32, 32)])
  inside = regions.of_content(content, (32, 32))
  assert inside.sum((1, 2)).tolist() == [16 * 32, 32 * 32]
  x = RNG.uniform(size=(2, 32, 32, 3)).astype(np.float32)
  guess = RNG.uniform(size=(2, 32, 32, 3)).astype(np.float32)
  cut = slice(place.top, place.top + place.height)
  mse = np.square(x[0, cut] - guess[0, cut]).mean()
  found = regions.psnr_in(x, guess, inside)
  np.testing.assert_allclose(found[0], -10 * np.log10(mse), rtol=1e-5)
  values = regions.ssim_in(x, guess, inside)
  np.testing.assert_allclose(values[1], ssim.ssim(x, guess)[1], rtol=1e-4)
  # Windows whose centre is inside: five rows around it are seen as well.
  seen = slice(cut.start - 5, cut.stop + 5)
  np.testing.assert_allclose(
    values[0], ssim.ssim(x[0, seen], guess[0, seen]), rtol=1e-4
  )
  # Equal bars lift what is measured of the whole image, and not this.
  guess[0, : cut.start] = x[0, : cut.start]
  np.testing.assert_array_equal(regions.psnr_in(x, guess, inside), found)


def test_lpips_cuts_the_content_out_if_it_is_large_enough():
  x = RNG.uniform(size=(2, 40, 40, 3)).astype(np.float32)
  corners = [(2, 0, 38, 40), (10, 0, 40, 40)]
  seen = []

  def distance(a, b):
    seen.append((a.shape, float(np.abs(a - b).max())))
    return np.array([0.25])

  found = regions.lpips_in(x, x, corners, distance)
  np.testing.assert_array_equal(found, [0.25, np.nan])
  assert seen == [((1, 36, 40, 3), 0.0)]


def test_boxes_need_a_task_that_has_them():
  for name in ('psnr_in_boxes', 'ssim_in_boxes'):
    with pytest.raises(ValueError, match='a task without boxes'):
      METRICS[name].prepare(scoring_test._audited(), True)
