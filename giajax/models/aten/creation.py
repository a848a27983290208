"""Operators that make arrays of nothing."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from giajax.models.aten import base
from giajax.models.aten.parts import values


def full(
  run: base.Pass,
  shape: Sequence[int],
  number: Any,
  *,
  dtype: str | None = None,
  **_: Any,
) -> values.Value:
  """Returns one number everywhere, of its own type by default."""
  return values.of(jnp.full(tuple(shape), number, _kind(run, number, dtype)))


def full_like(
  run: base.Pass,
  x: values.Value,
  number: Any,
  *,
  dtype: str | None = None,
  **_: Any,
) -> values.Value:
  """Returns one number everywhere, of the type of x by default."""
  kind = x.array.dtype if dtype is None else run.kind(dtype)
  return values.of(jnp.full(x.shape, number, kind))


def scalar(
  run: base.Pass, number: Any, *, dtype: str | None = None, **_: Any
) -> values.Value:
  """Returns one number."""
  return full(run, (), number, dtype=dtype or 'float32')


def empty(
  run: base.Pass, shape: Sequence[int], *, dtype: str | None = None, **_: Any
) -> values.Value:
  """Returns zeros, in the place of numbers that nobody has set."""
  return full(run, shape, 0.0, dtype=dtype)


def arange(
  run: base.Pass,
  start: Any,
  end: Any,
  step: Any = 1,
  *,
  dtype: str | None = None,
  **_: Any,
) -> values.Value:
  """Returns start, start + step, ... before end."""
  kind = _kind(run, start + end + step, dtype)
  return values.of(jnp.arange(start, end, step).astype(kind))


def _kind(run: base.Pass, number: Any, dtype: str | None) -> Any:
  if dtype is not None:
    return run.kind(dtype)
  if isinstance(number, bool):
    return jnp.bool_
  return jnp.int32 if isinstance(number, int) else run.dtype


def empty_permuted(
  run: base.Pass, shape: Sequence[int], layout: Sequence[int], **kwargs: Any
) -> values.Value:
  """Returns the same as `empty`, wherever torch would store its axes."""
  del layout
  return empty(run, shape, **kwargs)
