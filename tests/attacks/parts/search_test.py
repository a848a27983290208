"""Tests of giajax.attacks.parts.search."""

import numpy as np
import pytest

from giajax.attacks.parts import search


def rounds(numbers, count=12):
  """Returns how many numbers exceed each threshold of a search."""
  answers, exceeding = [], []
  for _ in range(count):
    v = search.threshold(
      answers,
      start=np.mean(numbers),
      low=np.min(numbers) - 1,
      high=10 + 10 * np.abs(numbers).sum(),
    )
    above = numbers[numbers > float(v)]
    exceeding.append(len(above))
    answers.append((np.float32(len(above)), above.sum() / max(len(above), 1)))
  return exceeding


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('size', [2, 6, 40])
def test_one_number_is_left(seed, size):
  numbers = np.random.default_rng(seed).normal(size=size)
  exceeding = rounds(numbers)
  assert exceeding[-1] == 1
  assert exceeding[0] > 1 or size == 2
  # What left one is kept.
  first = exceeding.index(1)
  assert set(exceeding[first:]) == {1}


def test_where_it_went_too_far_it_goes_back_by_half():
  start, high = np.float32(1.0), np.float32(100.0)
  answers = [(np.float32(3), np.float32(5.0))]
  v = search.threshold(answers, start=start, low=np.float32(0), high=high)
  assert v == 5  # the mean of those above
  answers.append((np.float32(0), np.float32(0.0)))
  v = search.threshold(answers, start=start, low=np.float32(0), high=high)
  assert v == 3  # between 1, which was too low, and 5
