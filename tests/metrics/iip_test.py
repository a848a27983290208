"""Tests of giajax.metrics.iip: answers known by hand."""

import numpy as np
import pytest

from giajax.metrics import iip


@pytest.mark.parametrize(
  ('found', 'expected'),
  [
    ((1.0, 0.1), 1),
    ((0.6, 1.0), 0),
    ((9.0, 1.0), 1),  # its length does not matter
    ((1.0, 1.0), 0),  # a tie
    ((0.0, 0.0), 0),
    ((np.nan, 1.0), 0),
  ],
)
def test_nearest_by_angle(found, expected):
  rivals = [(0.0, 1.0), (-1.0, 0.0)]
  assert iip.identified(found, (1.0, 0.0), rivals) == expected


def test_point_that_all_images_share_identifies_none():
  same = np.ones(4)
  assert iip.identified(same, same, [same, same]) == 0


def test_refuses_an_image_without_rivals():
  with pytest.raises(ValueError, match='at least one rival'):
    iip.identified(np.ones(2), np.ones(2), np.zeros((0, 2)))
