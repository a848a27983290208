"""Tests of giajax.report.training."""

import numpy as np

from giajax.report import training


def test_a_sheet_shows_each_sample_in_its_place():
  samples = np.zeros((2, 3, 4, 4, 1), np.float32)
  samples[1, 2] = 1.0
  sheet = training.sheet(samples)
  side = 4 * 16 + 2  # small images are enlarged; lines of white between them
  assert sheet.shape == (2 * side, 3 * side, 3)
  inner = sheet.reshape(2, side, 3, side, 3)[:, :-2, :, :-2]
  means = inner.mean(axis=(1, 3, 4))
  np.testing.assert_array_equal(means, [[0, 0, 0], [0, 0, 255]])
  assert (sheet[side - 2 : side] == 255).all()
