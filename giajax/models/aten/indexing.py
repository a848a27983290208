"""Operators that read and write at indices which are arrays."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from giajax import types


def index(x: types.Array, indices: Sequence[types.Array | None]) -> types.Array:
  """Returns the numbers at indices of leading axes; None for a whole axis."""
  return x[_index(indices)]


def index_put(
  x: types.Array,
  indices: Sequence[types.Array | None],
  part: types.Array,
  accumulate: bool = False,
) -> types.Array:
  """Returns x with numbers replaced, or added to, at indices."""
  at = x.at[_index(indices)]
  return at.add(part) if accumulate else at.set(part)


def _index(indices) -> tuple[Any, ...]:
  return tuple(slice(None) if i is None else i for i in indices)


def index_select(x: types.Array, dim: int, rows: types.Array) -> types.Array:
  """Returns the numbers at indices of one axis."""
  return jnp.take(x, rows.ravel(), axis=dim)


def gather(
  x: types.Array, dim: int, at: types.Array, *, sparse_grad: bool = False
) -> types.Array:
  """Returns x[at[i, j], j] for `dim` 0, and so on."""
  del sparse_grad
  if at.ndim:
    within = tuple(
      slice(None) if axis == dim % x.ndim else slice(size)
      for axis, size in enumerate(at.shape)
    )
    x = x[within]
  return jnp.take_along_axis(x, at, dim)


def embedding(table: types.Array, rows: types.Array, *_: Any) -> types.Array:
  """Returns rows of a table."""
  return jnp.take(table, rows, axis=0)
