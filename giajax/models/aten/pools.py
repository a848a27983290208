"""Pooling over the last one, two or three axes."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from giajax import types
from giajax.models.aten import base
from giajax.models.aten.parts import resampling
from giajax.models.aten.parts import values
from giajax.models.parts import pools


def max_pool(rank: int) -> base.Operator:
  """Returns the operator of a max-pool over some axes, without its indices."""

  def operator(
    run, x, size, strides=(), padding=(0,), dilation=(1,), ceil=False
  ):
    del run
    array = x.array
    settings = _settings(rank, size, strides or size, padding, dilation)
    for i in reversed(range(rank)):
      axis = x.order[i - rank]
      array = pools.max_along(
        array, axis, *(part[i] for part in settings), ceil=ceil
      )
    return (x.with_array(array),)

  return operator


def average_pool(rank: int) -> base.Operator:
  """Returns the operator of an average over windows."""

  def operator(
    run,
    x,
    size,
    strides=(),
    padding=(0,),
    ceil=False,
    count_padding=True,
    divisor=None,
  ):
    del run
    sizes, steps, pads = _settings(rank, size, strides or size, padding)
    matrices = [
      _windows(n, sizes[i], steps[i], pads[i], ceil, count_padding, divisor)
      for i, n in enumerate(x.shape[-rank:])
    ]
    if divisor:
      matrices[0] = matrices[0] / divisor
    return resampling.resampled(x, matrices)

  return operator


def _settings(rank: int, *lists: Sequence[int]) -> list[list[int]]:
  """Returns lists of one number for each axis; torch lets one stand for all."""
  return [[*part] if len(part) == rank else [*part] * rank for part in lists]


def _windows(n, size, step, pad, ceil, count_padding, divisor):
  """Returns [windows, n]: the weight of each pixel in each window's average."""
  count, rest = divmod(n + 2 * pad - size, step)
  count += 1
  # The last window must begin within the image or the padding before it.
  if ceil and rest and count * step < n + pad:
    count += 1
  start = np.arange(count)[:, None] * step - pad
  end = np.minimum(start + size, n + pad)
  whole = end - start
  start, end = np.maximum(start, 0), np.minimum(end, n)
  at = np.arange(n)
  inside = (start <= at) & (at < end)
  if divisor:
    return inside.astype(np.float64)
  return inside / (whole if count_padding else end - start)


def adaptive_average_pool(
  run: base.Pass, x: values.Value, sizes: Sequence[int]
) -> values.Value:
  """Returns averages over windows that cover the image `sizes` times."""
  del run
  rank = len(sizes)
  matrices = []
  for n, size in zip(x.shape[-rank:], sizes):
    start, end = _parts(n, size)
    at = np.arange(n)
    inside = (start[:, None] <= at) & (at < end[:, None])
    matrices.append(inside / (end - start)[:, None])
  return resampling.resampled(x, matrices)


def adaptive_max_pool(
  run: base.Pass, x: values.Value, sizes: Sequence[int]
) -> tuple[values.Value]:
  """Returns the largest numbers of windows as `adaptive_average_pool` has."""
  del run
  array, rank = x.array, len(sizes)
  for i in reversed(range(rank)):
    axis = x.order[i - rank]
    starts, ends = _parts(array.shape[axis], sizes[i])
    rows = [
      _largest(array, axis, range(start, end))
      for start, end in zip(starts, ends)
    ]
    array = jnp.concatenate(rows, axis)
  return (x.with_array(array),)


def _largest(array: types.Array, axis: int, places: Any) -> types.Array:
  """Returns the maximum at some places of an axis; the first one if equal."""
  size = len(places)
  part = jnp.take(array, np.asarray(places), axis)
  return pools.max_along(part, axis, size, size)


def _parts(n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
  i = np.arange(size)
  return i * n // size, -(-(i + 1) * n // size)
