"""Tests of looking at weights."""

import handmade
import jax
import numpy as np
import pytest

from giajax.verify.parts import weights


@pytest.mark.parametrize('name', ['monotone_biases', 'sign_split'])
def test_units_are_drawn(name, monkeypatch):
  seen = []

  def sample(key, size, most):
    seen.append((jax.random.key_data(key).tolist(), size, most))
    return draw(key, size, most)

  draw = weights.sample
  monkeypatch.setattr(weights, 'sample', sample)
  handmade.run(name, handmade.received())
  assert seen and seen[0][0] == jax.random.key_data(handmade.KEY).tolist()
  first, again, other = (draw(jax.random.key(k), 900, 64) for k in (0, 0, 1))
  assert list(first) == list(again) != list(other)
  assert len(set(first)) == 64 and list(draw(handmade.KEY, 5, 64)) == [
    *range(5)
  ]


def test_the_nearest_row_by_hand():
  rows = np.array([[1.0, 0.0], [0.0, 0.0], [-3.0, 0.0], [1.0, 1.0]])
  near = weights.nearest(rows)  # without the row of zeros
  np.testing.assert_allclose(near, [1.0, 1.0, np.sqrt(0.5)], rtol=1e-6)
  assert not weights.nearest(rows[:2]).size


def test_surplus_weights_are_left_out_and_missing_ones_are_none():
  agreed = handmade.fresh()
  chosen = weights.select(handmade.surplus().variables, agreed)
  assert jax.tree.structure(chosen) == jax.tree.structure(agreed)
  assert weights.select(agreed, handmade.surplus().variables) is None
