"""Operators that resize images."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from giajax.models.aten import base
from giajax.models.aten.parts import resampling
from giajax.models.aten.parts import values


def nearest(
  run: base.Pass,
  x: values.Value,
  sizes: Sequence[int] | None,
  factors: Sequence[float] | None = None,
) -> values.Value:
  """Returns the nearest pixel before, as `interpolate(mode='nearest')`."""
  del run
  return _resized(x, sizes, factors, _nearest)


def nearest_exact(
  run: base.Pass,
  x: values.Value,
  sizes: Sequence[int] | None,
  factors: Sequence[float] | None = None,
) -> values.Value:
  """Returns the nearest pixel, as `interpolate(mode='nearest-exact')`."""
  del run
  return _resized(x, sizes, factors, _nearest_exact)


def linear(
  run: base.Pass,
  x: values.Value,
  sizes: Sequence[int] | None,
  corners: bool,
  factors: Sequence[float] | None = None,
) -> values.Value:
  """Returns averages of neighbours, as `interpolate(mode='bilinear')`."""
  del run
  return _resized(x, sizes, factors, _aligned if corners else _linear)


def _resized(
  x: values.Value,
  sizes: Sequence[int] | None,
  factors: Sequence[float] | None,
  matrix: Callable[[int, int, float], np.ndarray],
) -> values.Value:
  rank = x.ndim - 2
  spatial = x.shape[2:]
  if sizes is None:
    sizes = [int(n * f) for n, f in zip(spatial, factors or ())]
    scales: Any = [1 / f for f in factors or ()]
  else:
    scales = [n / size for n, size in zip(spatial, sizes)]
  assert len(scales) == rank
  return resampling.resampled(
    x, [matrix(*three) for three in zip(spatial, sizes, scales)]
  )


def _nearest(n, size, scale):
  rows = np.float32(np.arange(size)) * np.float32(scale)
  return _picked(n, np.floor(rows))


def _nearest_exact(n, size, scale):
  rows = (np.float32(np.arange(size)) + np.float32(0.5)) * np.float32(scale)
  return _picked(n, np.floor(rows))


def _picked(n, rows):
  return np.eye(n)[np.minimum(rows.astype(int), n - 1)]


def _linear(n, size, scale):
  return _between(n, np.maximum((np.arange(size) + 0.5) * scale - 0.5, 0))


def _aligned(n, size, scale):
  del scale
  step = (n - 1) / (size - 1) if size > 1 else 0
  return _between(n, np.arange(size) * step)


def _between(n, rows):
  """Returns the weights of the two pixels around each place."""
  low = np.minimum(rows.astype(int), n - 1)
  high, part = np.minimum(low + 1, n - 1), (rows - low)[:, None]
  return np.eye(n)[low] * (1 - part) + np.eye(n)[high] * part
