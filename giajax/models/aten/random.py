"""Operators that draw random numbers, from the key of the pass.

Each draws from a key of its own, by its number in the program. The numbers are
not torch's, of course; their distribution is.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from giajax import keys
from giajax import types
from giajax.models.aten import base
from giajax.models.aten.parts import values


def dropout(
  run: base.Pass, x: values.Value, rate: float, train: bool
) -> values.Value:
  """Returns x, of which a training pass zeroes a part and scales up others."""
  return x.with_array(dropped(run, x.array, rate)) if train else x


def native_dropout(
  run: base.Pass, x: values.Value, rate: float, train: bool | None
) -> tuple[values.Value, values.Value]:
  """Returns the result of `dropout`, and what was kept."""
  if train is False:
    return x, x.with_array(jnp.ones(x.array.shape, bool))
  kept = _kept(run, x.array, rate)
  return x.with_array(_scaled(x.array, kept, rate)), x.with_array(kept)


def dropped(run: base.Pass, x: types.Array, rate: float) -> types.Array:
  """Returns an array of which a part is zero, and the rest scaled up."""
  return _scaled(x, _kept(run, x, rate), rate) if rate else x


def _kept(run, x, rate):
  # Drawn flat, since XLA is slow to compile draws along several axes.
  flat = jax.random.bernoulli(run.draw(), 1 - rate, (x.size,))
  return flat.reshape(x.shape)


def _scaled(x, kept, rate):
  if rate == 1:
    return jnp.zeros_like(x)
  return jnp.where(kept, x / (1 - rate), 0)


def bernoulli(
  run: base.Pass,
  x: values.Value,
  probability: float | None = None,
  *,
  generator: Any = None,
) -> values.Value:
  """Returns ones with a probability, that of x itself for None, else zeros."""
  del generator
  chances = x.array if probability is None else probability
  chances = jnp.broadcast_to(jax.lax.stop_gradient(chances), x.array.shape)
  drawn = jax.random.bernoulli(run.draw(), chances.ravel())
  return x.with_array(drawn.reshape(chances.shape).astype(x.array.dtype))


def uniform(
  run: base.Pass,
  shape: Sequence[int],
  *,
  dtype: str | None = None,
  **_: Any,
) -> values.Value:
  """Returns numbers between 0 and 1."""
  unit = keys.uniform(run.draw(), tuple(shape), 0.5) + 0.5
  return values.of(unit.astype(run.kind(dtype)))


def normal(
  run: base.Pass,
  shape: Sequence[int],
  *,
  dtype: str | None = None,
  **_: Any,
) -> values.Value:
  """Returns numbers of the standard normal distribution."""
  drawn = keys.normal(run.draw(), tuple(shape))
  return values.of(drawn.astype(run.kind(dtype)))


def uniform_like(
  run: base.Pass, x: values.Value, **kwargs: Any
) -> values.Value:
  """Returns numbers between 0 and 1 in the shape of x."""
  return uniform(run, x.shape, **kwargs)


def normal_like(run: base.Pass, x: values.Value, **kwargs: Any) -> values.Value:
  """Returns numbers of the standard normal distribution in the shape of x."""
  return normal(run, x.shape, **kwargs)


def exponential(
  run: base.Pass, x: values.Value, rate: float = 1.0, *, generator: Any = None
) -> values.Value:
  """Returns numbers of the exponential distribution in the shape of x."""
  del generator
  size = (x.array.size,)
  drawn = jax.random.exponential(run.draw(), size, x.array.dtype) / rate
  return x.with_array(drawn.reshape(x.array.shape))
