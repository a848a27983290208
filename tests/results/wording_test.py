"""Tests of how results are worded."""

import math

import numpy as np

from giajax.results import wording


def test_numbers_as_text():
  numbers = (-3, math.nan, None, math.inf, np.float32(0.5))
  assert [wording.figure(v, 1) for v in numbers] == [
    '−3.0',
    '–',
    '–',
    '∞',
    '0.5',
  ]
  assert wording.significant(0.000123) == '0.000123'
