"""Tests of giajax.report.captions."""

import numpy as np
import pytest

from giajax.report import captions

NAMES = ('ape', 'bee', '2')


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
  ],
)
def test_no_claim(target, none):
  assert captions._is_none(target) == none
