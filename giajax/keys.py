"""Random keys by identity: a draw depends on its purpose, not on where it runs.

Keys depend on (seed, point, case, restart, step) through `fold_in`, so that
any split of an experiment over devices, processes or jobs draws the same
numbers. Arrays are drawn flat, because XLA takes longer to compile the same
draw along four axes.
"""

import math
import zlib

import jax

from giajax import types


def named(key: types.Array, name: str) -> types.Array:
  """Returns the key of a named purpose, e.g. `named(key, 'model')`.

  Args:
    key: a scalar key; it is not consumed and may serve further names.
    name: the purpose of the key. The result is the same in all processes and
      Python versions.
  """
  return jax.random.fold_in(key, zlib.crc32(name.encode()))


def at(key: types.Array, *indices: types.Array | int) -> types.Array:
  """Returns the key at an index path, e.g. `at(key, point, restart, step)`."""
  for index in indices:
    key = jax.random.fold_in(key, index)
  return key


def normal(key: types.Array, shape: tuple[int, ...]) -> types.Array:
  """Returns the same as `jax.random.normal`; the key is consumed."""
  return jax.random.normal(key, (math.prod(shape),)).reshape(shape)


def uniform(
  key: types.Array, shape: tuple[int, ...], bound: float
) -> types.Array:
  """Returns draws from [-bound, bound); the key is consumed."""
  size = (math.prod(shape),)
  flat = jax.random.uniform(key, size, minval=-bound, maxval=bound)
  return flat.reshape(shape)
