"""Tests of giajax.metrics.confidence: coverage, and where there is none."""

import math

import numpy as np
import pytest

from giajax.metrics import confidence


@pytest.mark.parametrize('statistic', ['median', 'mean'])
def test_holds_the_truth_about_as_often_as_it_says(statistic):
  """Of 200 draws 160 expected; four standard deviations are 23."""
  rng = np.random.default_rng(0)
  draws = rng.normal(3, 1, size=(200, 40))
  ends = [
    confidence.interval(scores, statistic=statistic, level=0.8, seed=i)
    for i, scores in enumerate(draws)
  ]
  hits = sum(low <= 3 <= high for low, high in ends)
  assert 137 <= hits <= 183
  assert np.mean([high - low for low, high in ends]) < 0.8


def test_same_scores_same_interval():
  scores = np.random.default_rng(1).normal(size=(4, 5))
  first = confidence.interval(scores)
  assert first == confidence.interval(scores.ravel())
  assert first != confidence.interval(scores, seed=1)
  assert first.low < np.median(scores) < first.high
  assert confidence.interval(np.ones(9)) == (1, 1)


@pytest.mark.parametrize(
  'scores', [(), (1, 2, 3, 4, 5), (1, 2, 3, 4, 5, math.nan), (math.inf,) * 9]
)
def test_no_interval(scores):
  assert np.isnan(confidence.interval(scores)).all()


def test_six_scores_are_enough_for_a_level_of_095():
  assert np.isfinite(confidence.interval(range(6))).all()
  assert np.isnan(confidence.interval(range(6), level=0.99)).all()


def test_refuses_what_is_no_level():
  with pytest.raises(ValueError, match=r'level in \(0, 1\)'):
    confidence.interval(range(9), level=95)
  with pytest.raises(ValueError, match='known statistic'):
    confidence.interval(range(9), statistic='mode')


@pytest.mark.parametrize('statistic', ['median', 'mean'])
def test_very_many_scores_have_the_interval_of_resampling(statistic):
  scores = np.random.default_rng(2).gamma(2, 1, size=1001)
  found = confidence.interval(scores, statistic=statistic)
  few = confidence.interval(scores[:1000], statistic=statistic)
  np.testing.assert_allclose(found, few, atol=0.02)
  assert confidence.interval(np.ones(1001), statistic=statistic) == (1, 1)
