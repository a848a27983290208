"""A search for a threshold that only one of several unknown numbers exceeds.

For every threshold that was tried, it is known how many numbers exceed it and
what their mean is; nothing else is known about them. While several numbers
exceed the threshold, their mean is the next one, because at least one of them
exceeds it unless they are equal. If none exceeds a threshold, the search goes
halfway back.
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
    answers: for each threshold that was tried, how many numbers exceeded it,
      [], and their mean, []; counts need not be whole.
    start: the threshold that was tried first.
    low: a threshold that several numbers exceed.
    high: a threshold that no number exceeds.
  """
  v = start
  for count, mean in answers:
    several, none = count > 1 + NEAR, count < 1 - NEAR
    low, high = jnp.where(several, v, low), jnp.where(none, v, high)
    climbed = jnp.minimum(mean, (v + high) / 2)
    v = jnp.where(several, climbed, jnp.where(none, (low + v) / 2, v))
  return v
