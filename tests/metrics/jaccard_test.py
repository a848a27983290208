"""Tests of giajax.metrics.jaccard: answers known by hand."""

import numpy as np
import pytest

from giajax.metrics import jaccard

TRUE = [[0.9, 0.8, 0.7, 0.1]]


@pytest.mark.parametrize(
  ('found', 'count', 'threshold', 'expected'),
  [
    (TRUE[0], 3, 0.5, 1),
    ((0.9, 0.8, 0.1, 0.7), 3, 0.5, 1 / 2),  # {0, 1, 2} and {0, 1, 3}
    ((0.9, 0.8, 0.1, 0.7), 2, 0.5, 1),  # {0, 1} of both
    ((0.9, 0.1, 0.1, 0.1), 3, 0.5, 1 / 3),  # the threshold leaves {0}
    ((0.1, 0.1, 0.1, 0.9), 3, 0.5, 0),
    ((0.9, np.nan, 0.1, 0.1), 3, 0.5, 1 / 3),
    (TRUE[0], 3, 0.95, 0),  # no tag at all
  ],
)
def test_overlap_of_tags(found, count, threshold, expected):
  value = jaccard.jaccard(TRUE, [found], count=count, threshold=threshold)
  np.testing.assert_allclose(value, [expected], rtol=1e-6)


def test_refuses_what_has_no_tags():
  with pytest.raises(ValueError, match='count of 1 to 4'):
    jaccard.jaccard(TRUE, TRUE, count=5, threshold=0)
  with pytest.raises(ValueError, match=r'scores \[B, K\]'):
    jaccard.jaccard(TRUE, TRUE[0], count=1, threshold=0)
