"""Tests of bins."""

import handmade
import numpy as np
import pytest


@pytest.mark.parametrize('count', [2, 5, 40])
def test_bins_are_seen_in_any_order(count):
  order = np.random.default_rng(0).permutation(40)
  wide = lambda b: handmade.cuts(b)[order]  # noqa: E731
  verdict = handmade.run(
    'monotone_biases',
    handmade.received(hidden__kernel=handmade.bins, hidden__bias=wide),
  )
  assert verdict.score == 1.0
  alike = handmade.received(hidden__bias=lambda b: b * 0)
  assert handmade.run('monotone_biases', alike).score == 0
  some = handmade.received(
    hidden__kernel=lambda k: k.at[:, :count].set(k[:, :1])
  )
  assert handmade.run('monotone_biases', some).score == pytest.approx(
    count / 40
  )
