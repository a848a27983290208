"""Operators that sum up axes, or search along them."""

from collections.abc import Sequence
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from giajax import trees
from giajax import types
from giajax.models.aten import base
from giajax.models.aten.parts import values


def over(fn: Any) -> base.Operator:
  """Returns the operator of a function of an array and axes.

  Args:
    fn: `(array, axes) -> array`, which keeps the axes at size 1.
  """

  def operator(run, x, dims=None, keep=False, *, dtype=None):
    if dtype is not None:
      x = x.with_array(x.array.astype(run.kind(dtype)))
    return _reduced(fn, x, dims, keep)

  return operator


def _reduced(fn, x: values.Value, dims, keep: bool) -> values.Value:
  dims = [dims] if isinstance(dims, int) else dims
  y = x.with_array(fn(x.array, x.axes(dims)))
  if keep:
    return y
  gone = {dim % x.ndim for dim in dims or range(x.ndim)} if x.ndim else set()
  kept = [size for dim, size in enumerate(x.shape) if dim not in gone]
  return values.reshaped(y, kept)


def total(x: types.Array, axes: Sequence[int]) -> types.Array:
  """Returns sums; whole numbers and booleans are counted."""
  return x.sum(axes, keepdims=True)


def mean(x: types.Array, axes: Sequence[int]) -> types.Array:
  """Returns means."""
  return x.mean(axes, keepdims=True)


def maximum(x: types.Array, axes: Sequence[int]) -> types.Array:
  """Returns the largest numbers; equal ones share the derivative."""
  return x.max(axes, keepdims=True)


def minimum(x: types.Array, axes: Sequence[int]) -> types.Array:
  """Returns the smallest numbers; equal ones share the derivative."""
  return x.min(axes, keepdims=True)


def any_(x: types.Array, axes: Sequence[int]) -> types.Array:
  """Returns whether any number is not 0."""
  return (x != 0).any(axes, keepdims=True)


def all_(x: types.Array, axes: Sequence[int]) -> types.Array:
  """Returns whether no number is 0."""
  return (x != 0).all(axes, keepdims=True)


def product(x: types.Array, axes: Sequence[int]) -> types.Array:
  """Returns products."""
  return x.prod(axes, keepdims=True)


def variance(
  run: base.Pass,
  x: values.Value,
  dims: Sequence[int] | None = None,
  *,
  correction: float | None = None,
  keepdim: bool = False,
) -> values.Value:
  """Returns variances, with the number of values less `correction` (1)."""
  del run
  less = 1 if correction is None else correction

  def fn(array, axes):
    count = math.prod(array.shape[axis] for axis in axes)
    centred = array - array.mean(axes, keepdims=True)
    squares = jnp.square(centred).sum(axes, keepdims=True)
    return squares / max(count - less, 0)

  return _reduced(fn, x, dims, keepdim)


def variance_and_mean(
  run: base.Pass,
  x: values.Value,
  dims: Sequence[int] | None = None,
  *,
  correction: float | None = None,
  keepdim: bool = False,
) -> tuple[values.Value, values.Value]:
  """Returns variances and means."""
  options = {'correction': correction, 'keepdim': keepdim}
  return variance(run, x, dims, **options), _reduced(mean, x, dims, keepdim)


def vector_norm(
  run: base.Pass,
  x: values.Value,
  degree: float = 2,
  dims: Sequence[int] | None = None,
  keep: bool = False,
  *,
  dtype: str | None = None,
) -> values.Value:
  """Returns p-norms, whose derivative at 0 is 0."""
  del run, dtype
  return _reduced(functools.partial(_norm, degree=degree), x, dims, keep)


def _norm(x, axes, *, degree):
  if degree == 2:
    squares = jnp.square(x).sum(axes, keepdims=True)
    return jnp.where(squares > 0, trees.safe_sqrt(squares), 0)
  if math.isinf(degree):
    chosen = jnp.max if degree > 0 else jnp.min
    return chosen(trees.safe_abs(x), axes, keepdims=True)
  if degree == 0:
    return (x != 0).astype(x.dtype).sum(axes, keepdims=True)
  powers = (trees.safe_abs(x) ** degree).sum(axes, keepdims=True)
  return powers ** (1 / degree)


def softmax(
  run: base.Pass, x: values.Value, dim: int, half_to_float: bool = False
) -> values.Value:
  """Returns exp(x), divided by its sum along an axis."""
  del run, half_to_float
  return x.with_array(jax.nn.softmax(x.array, x.axes(dim)))


def log_softmax(
  run: base.Pass, x: values.Value, dim: int, half_to_float: bool = False
) -> values.Value:
  """Returns the logarithm of `softmax`."""
  del run, half_to_float
  return x.with_array(jax.nn.log_softmax(x.array, x.axes(dim)))


def argmax(
  x: types.Array, dim: int | None = None, keep: bool = False
) -> types.Array:
  """Returns the place of the largest number."""
  return jnp.argmax(x, dim, keepdims=keep)


def argmin(
  x: types.Array, dim: int | None = None, keep: bool = False
) -> types.Array:
  """Returns the place of the smallest number."""
  return jnp.argmin(x, dim, keepdims=keep)


def largest(
  x: types.Array, dim: int, keep: bool = False
) -> tuple[types.Array, types.Array]:
  """Returns the largest number and its place, which has the derivative."""
  return _at(x, jnp.argmax(x, dim, keepdims=True), dim, keep)


def smallest(
  x: types.Array, dim: int, keep: bool = False
) -> tuple[types.Array, types.Array]:
  """Returns the smallest number and its place, which has the derivative."""
  return _at(x, jnp.argmin(x, dim, keepdims=True), dim, keep)


def _at(x, place, dim, keep):
  found = jnp.take_along_axis(x, place, dim)
  if keep:
    return found, place
  return found.squeeze(dim), place.squeeze(dim)


def cumulative_sum(
  run: base.Pass, x: values.Value, dim: int, *, dtype: str | None = None
) -> values.Value:
  """Returns the sums of what stands before, inclusively."""
  array = x.array if dtype is None else x.array.astype(run.kind(dtype))
  return x.with_array(jnp.cumsum(array, x.axes(dim)[0]))


def top(
  x: types.Array,
  count: int,
  dim: int = -1,
  largest: bool = True,
  ordered: bool = True,
) -> tuple[types.Array, types.Array]:
  """Returns the largest or smallest numbers of an axis, and their places."""
  del ordered
  ranks = jnp.argsort(x, dim, descending=largest)
  places = jax.lax.slice_in_dim(ranks, 0, count, axis=dim % x.ndim)
  return jnp.take_along_axis(x, places, dim), places


def sort(
  x: types.Array, dim: int = -1, descending: bool = False
) -> tuple[types.Array, types.Array]:
  """Returns the numbers of an axis in order, and their places."""
  return top(x, x.shape[dim], dim, descending)
