"""A search for a threshold that only one of several unknown numbers exceeds.

Nothing is known of the numbers but, for every threshold that was tried, how
many exceed it and what their mean is. That mean is the next threshold while
there are several, as at least one of them exceeds it unless they are equal;
where none exceeds a threshold, the search goes back by half.
"""

from collections.abc import Iterable

import jax.numpy as jnp

from giajax import types

NEAR = 0.02  # a count that is so near to 1 is 1


def threshold(
  answers: Iterable[tuple[types.Array, types.Array]],
  *,
  start: types.Array,
  low: types.Array,
  high: types.Array,
) -> types.Array:
  """Returns the next threshold, [].

  Args:
    answers: how many numbers exceeded each threshold that was tried, [], and
      their mean, []; counts need not be whole.
    start: the threshold that was tried first.
    low: a threshold that several numbers exceed.
    high: one that none exceeds.
  """
  v = start
  for count, mean in answers:
    several, none = count > 1 + NEAR, count < 1 - NEAR
    low, high = jnp.where(several, v, low), jnp.where(none, v, high)
    climbed = jnp.minimum(mean, (v + high) / 2)
    v = jnp.where(several, climbed, jnp.where(none, (low + v) / 2, v))
  return v
