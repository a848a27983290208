"""Initial weights, by torch's definitions: `(key, shape) -> array`."""

from collections.abc import Callable
import math

import jax
import jax.numpy as jnp

from giajax import keys
from giajax import types


def zeros(key: types.Array, shape: tuple[int, ...]) -> types.Array:
  """The initialiser of a layer that adds nothing at first."""
  del key
  return jnp.zeros(shape)


def ones(key: types.Array, shape: tuple[int, ...]) -> types.Array:
  """The initialiser of a layer that scales by nothing at first."""
  del key
  return jnp.ones(shape)


def constant(value: float) -> Callable[..., types.Array]:
  """Returns the initialiser of a layer all of whose numbers begin equal."""
  return lambda key, shape: jnp.full(shape, value)


def normal(std: float) -> Callable[..., types.Array]:
  """Returns torch's normal_ around zero, of standard deviation `std`."""
  return lambda key, shape: std * keys.normal(key, shape)


def truncated_normal(std: float) -> Callable[..., types.Array]:
  """Returns torch's trunc_normal_, of standard deviation `std` within +-2."""

  def draw(key, shape):
    size, bound = (math.prod(shape),), 2 / std
    flat = jax.random.truncated_normal(key, -bound, bound, size)
    return std * flat.reshape(shape)

  return draw


def xavier_uniform(key: types.Array, shape: tuple[int, ...]) -> types.Array:
  """Torch's xavier_uniform_ of a linear layer's kernel."""
  return symmetric(math.sqrt(6 / sum(shape)))(key, shape)


def uniform(fan_in: int) -> Callable[..., types.Array]:
  """Returns torch's default initialiser, U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
  return symmetric(fan_in**-0.5)


def symmetric(bound: float) -> Callable[..., types.Array]:
  """Returns an initialiser that draws from U(-bound, bound)."""
  return lambda key, shape: keys.uniform(key, shape, bound)


def he_normal_fan_out(key: types.Array, shape: tuple[int, ...]) -> types.Array:
  """Torch's kaiming_normal_(mode='fan_out', nonlinearity='relu')."""
  fan_out = math.prod(shape) // shape[-2]
  return keys.normal(key, shape) * math.sqrt(2 / fan_out)


def he_normal_fan_in(key: types.Array, shape: tuple[int, ...]) -> types.Array:
  """Torch's kaiming_normal_()."""
  return keys.normal(key, shape) * math.sqrt(2 / math.prod(shape[:-1]))
