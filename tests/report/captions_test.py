"""Tests of giajax.report.captions."""

import numpy as np
import pytest

from giajax.report import captions

NAMES = ('ape', 'bee', '2')
OBJECTS = {
  'boxes': np.zeros((4, 4)),
  'classes': np.array([1, 0, 2, 0]),
  'valid': np.array([True, True, False, True]),
}
NOTHING = {
  'boxes': np.full((2, 4), np.nan),
  'classes': np.full(2, -1),
  'valid': np.zeros(2, bool),
}


@pytest.mark.parametrize(
  ('target', 'words'),
  [
    (np.int32(1), 'bee'),
    (np.int32(2), 'class 2'),
    (np.int32(7), 'class 7'),
    (np.array([1, 1, 0]), 'ape, bee'),
    (np.array([0, 0, 0]), 'none of the labels'),
    (np.array([3, 1]), '3, 1'),
    (np.array([[0, 1], [1, 1]]), 'bee 75%, ape 25%'),
    (np.array([0.5, -2.0], np.float32), '0.5, −2'),
    (np.float32(1.25), '1.25'),
    (np.arange(6.0), '0, 1, 2, 3 and 2 more'),
    ({'kind': np.int32(0), 'size': np.float32(2)}, 'kind ape; size 2'),
    (OBJECTS, 'ape x 2, bee'),
    ({**OBJECTS, 'valid': np.zeros(4, bool)}, 'no objects'),
  ],
)
def test_targets_in_words(target, words):
  assert captions.words(target, NAMES) == words


@pytest.mark.parametrize(
  ('target', 'none'),
  [
    (np.int32(-1), True),
    (np.int32(0), False),
    (np.full((2, 2), -1), True),
    (np.array([np.nan, np.nan]), True),
    (np.array([np.nan, 1]), False),
    ({'a': np.int32(-1), 'b': np.float32(np.nan)}, True),
    (OBJECTS, False),
    (NOTHING, True),
  ],
)
def test_no_claim(target, none):
  assert captions._is_none(target) == none
