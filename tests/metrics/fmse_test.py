"""Tests of giajax.metrics.fmse: answers known by hand."""

import numpy as np
import pytest

from giajax.metrics import fmse


def test_mean_of_squares_an_image():
  f = [[0, 0, 0, 0], [1, 2, 3, 4], [1, 2, 3, 4]]
  g = [[2, 0, 0, 0], [1, 2, 3, 4], [np.nan, 2, 3, 4]]
  found = fmse.fmse(f, g)
  np.testing.assert_array_equal(found, np.float32([1, 0, np.nan]))
  maps = np.reshape(f, (3, 2, 2)), np.reshape(g, (3, 2, 2))
  np.testing.assert_array_equal(fmse.fmse(*maps), found)


def test_refuses_other_shapes():
  with pytest.raises(ValueError, match='features of one shape'):
    fmse.fmse(np.zeros((2, 3)), np.zeros((1, 3)))
