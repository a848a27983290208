"""Operators that move, cut and join arrays."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from giajax import types
from giajax.models.aten import base
from giajax.models.aten.parts import values


def view(run: base.Pass, x: values.Value, shape: Sequence[int]) -> values.Value:
  """Returns torch's numbers, in torch's order, in another shape."""
  del run
  return values.reshaped(x, shape)


def permute(
  run: base.Pass, x: values.Value, dims: Sequence[int]
) -> values.Value:
  """Returns x with its axes in another sequence."""
  del run
  return x.permuted(dims)


def transpose(
  run: base.Pass, x: values.Value, one: int = 0, other: int = 1
) -> values.Value:
  """Returns x with two axes exchanged."""
  del run
  dims = [*range(x.ndim)]
  if dims:
    dims[one], dims[other] = dims[other], dims[one]
  return x.permuted(dims)


def transpose_matrix(run: base.Pass, x: values.Value) -> values.Value:
  """Returns the transpose of a matrix, or a vector as it is."""
  del run
  return x.permuted([*range(x.ndim)][::-1])


def expand(
  run: base.Pass,
  x: values.Value,
  shape: Sequence[int],
  *,
  implicit: bool = False,
) -> values.Value:
  """Returns x repeated along axes of size 1, and along new ones in front."""
  del run, implicit
  missing = len(shape) - x.ndim
  full = [
    x.shape[axis - missing] if size == -1 else size
    for axis, size in enumerate(shape)
  ]
  array = x.array.reshape((1,) * missing + x.array.shape)
  order = (*range(missing), *(axis + missing for axis in x.order))
  stored = [full[axis] for axis in np.argsort(order)]
  return values.Value(jnp.broadcast_to(array, stored), order)


def unsqueeze(run: base.Pass, x: values.Value, dim: int) -> values.Value:
  """Returns x with a new axis of size 1."""
  del run
  dim = dim % (x.ndim + 1)
  order = (*x.order[:dim], x.ndim, *x.order[dim:])
  return values.Value(x.array[..., None], order)


def squeeze(
  run: base.Pass, x: values.Value, dims: Sequence[int] | int | None = None
) -> values.Value:
  """Returns x without those of some axes that have size 1; all for none."""
  del run
  if dims is None:
    dims = [*range(x.ndim)]
  named = [dims] if isinstance(dims, int) else dims
  gone = {dim % x.ndim for dim in named if x.ndim and x.shape[dim] == 1}
  kept = [size for dim, size in enumerate(x.shape) if dim not in gone]
  return values.reshaped(x, kept)


def slice_(
  run: base.Pass,
  x: values.Value,
  dim: int = 0,
  start: int | None = None,
  end: int | None = None,
  step: int = 1,
) -> values.Value:
  """Returns the numbers at start, start + step, ... before end of an axis."""
  del run
  index: list[Any] = [slice(None)] * x.ndim
  index[x.order[dim]] = slice(start, end, step)
  return x.with_array(x.array[tuple(index)])


def select(
  run: base.Pass, x: values.Value, dim: int, index: int
) -> values.Value:
  """Returns the numbers at one index of an axis, without the axis."""
  return _without(_taken(x, dim, index), dim)


def _taken(x, dim, index):
  axis = x.order[dim]
  start = index % x.array.shape[axis]
  part = jax.lax.slice_in_dim(x.array, start, start + 1, axis=axis)
  return x.with_array(part)


def _without(x, dim):
  axis = x.order[dim]
  order = [a - (a > axis) for a in x.order if a != axis]
  return values.Value(x.array.squeeze(axis), tuple(order))


def cat(
  run: base.Pass, parts: Sequence[values.Value], dim: int = 0
) -> values.Value:
  """Returns arrays joined along an axis."""
  del run
  # torch lets empty vectors pass, whatever the others are.
  parts = [part for part in parts if part.shape != (0,)] or parts[:1]
  arrays, order = values.aligned(parts)
  dtype = jnp.result_type(*arrays)
  arrays = [array.astype(dtype) for array in arrays]
  return values.Value(jnp.concatenate(arrays, order[dim]), order)


def stack(
  run: base.Pass, parts: Sequence[values.Value], dim: int = 0
) -> values.Value:
  """Returns arrays joined along a new axis."""
  return cat(run, [unsqueeze(run, part, dim) for part in parts], dim)


def split(
  run: base.Pass, x: values.Value, sizes: Sequence[int] | int, dim: int = 0
) -> tuple[values.Value, ...]:
  """Returns neighbouring parts of an axis, of one size or of several."""
  total = x.shape[dim]
  if isinstance(sizes, int):
    size = max(sizes, 1)
    sizes = [min(size, total - at) for at in range(0, max(total, 1), size)]
  ends = np.cumsum(sizes)
  return tuple(
    slice_(run, x, dim, int(end) - size, int(end))
    for end, size in zip(ends, sizes)
  )


def unbind(
  run: base.Pass, x: values.Value, dim: int = 0
) -> tuple[values.Value, ...]:
  """Returns the parts of an axis, without it."""
  return tuple(select(run, x, dim, i) for i in range(x.shape[dim]))


def flip(run: base.Pass, x: values.Value, dims: Sequence[int]) -> values.Value:
  """Returns x backwards along axes."""
  del run
  return x.with_array(jnp.flip(x.array, x.axes(dims))) if dims else x


def roll(
  run: base.Pass,
  x: values.Value,
  shifts: Sequence[int] | int,
  dims: Sequence[int] | int = (),
) -> values.Value:
  """Returns x rolled along axes, or as one vector for no axes."""
  del run
  if dims in ((), []):
    flat = jnp.roll(x.logical().ravel(), shifts)
    return values.of(flat.reshape(x.shape))
  shifts = (shifts,) if isinstance(shifts, int) else tuple(shifts)
  return x.with_array(jnp.roll(x.array, shifts, x.axes(dims)))


def repeat(x: types.Array, counts: Sequence[int]) -> types.Array:
  """Returns x several times along each axis, new ones in front."""
  return jnp.tile(x.reshape((1,) * (len(counts) - x.ndim) + x.shape), counts)


def constant_pad(
  run: base.Pass, x: values.Value, widths: Sequence[int], number: float = 0
) -> values.Value:
  """Returns x between numbers; negative widths cut off."""
  del run
  config = _widths(x, widths)
  fill = jnp.asarray(number, x.array.dtype)
  return x.with_array(jax.lax.pad(x.array, fill, [(*w, 0) for w in config]))


def reflection_pad(
  run: base.Pass, x: values.Value, widths: Sequence[int]
) -> values.Value:
  """Returns x between its mirror images, which do not repeat the edge."""
  del run
  return x.with_array(jnp.pad(x.array, _widths(x, widths), 'reflect'))


def replication_pad(
  run: base.Pass, x: values.Value, widths: Sequence[int]
) -> values.Value:
  """Returns x between copies of its edge."""
  del run
  return x.with_array(jnp.pad(x.array, _widths(x, widths), 'edge'))


def _widths(x, widths):
  """Returns (before, after) of each stored axis; torch begins at the last."""
  config = [(0, 0)] * x.ndim
  for i in range(len(widths) // 2):
    config[x.order[-1 - i]] = tuple(widths[2 * i : 2 * i + 2])
  return config


def slice_scatter(
  x: types.Array,
  part: types.Array,
  dim: int = 0,
  start: int | None = None,
  end: int | None = None,
  step: int = 1,
) -> types.Array:
  """Returns x with the numbers of a slice replaced."""
  index: list[Any] = [slice(None)] * x.ndim
  index[dim] = slice(start, end, step)
  return x.at[tuple(index)].set(part)


def select_scatter(
  x: types.Array, part: types.Array, dim: int, index: int
) -> types.Array:
  """Returns x with the numbers at one index of an axis replaced."""
  at: list[Any] = [slice(None)] * x.ndim
  at[dim] = index
  return x.at[tuple(at)].set(part)


def diagonal(
  x: types.Array, offset: int = 0, one: int = 0, other: int = 1
) -> types.Array:
  """Returns the diagonal of two axes, as a last axis."""
  return jnp.diagonal(x, offset, one, other)
