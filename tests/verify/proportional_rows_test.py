"""Tests of rows that compute the same."""

import handmade
import jax.numpy as jnp
import pytest


@pytest.mark.parametrize(
  'count, least, most', [(40, 6.5, 7), (20, 6.2, 6.7), (2, 5.2, 5.7), (1, 0, 1)]
)
def test_rows_do_not_hide_among_honest_ones(count, least, most):
  # Rows 0 .. count - 1 are multiples of the first.
  sizes = jnp.linspace(-1.0, 1.1, count)
  change = lambda k: k.at[:, :count].set(k[:, :1] * sizes)  # noqa: E731
  verdict = handmade.run(
    'proportional_rows', handmade.received(hidden__kernel=change)
  )
  assert least <= verdict.score <= most
  assert verdict.flagged == (count > 1)
