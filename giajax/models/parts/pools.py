"""Pooling of [B, H, W, C] images and its opposite, by torch's definitions."""

import jax
import jax.numpy as jnp
import numpy as np

from giajax import types


def max_pool(
  x: types.Array,
  size: int,
  stride: int,
  padding: int = 0,
  *,
  ceil: bool = False,
) -> types.Array:
  """torch.nn.MaxPool2d on [B, H, W, C].

  It is the maximum of shifted slices, whose second derivative is faster on a
  CPU than that of `lax.reduce_window`. Of equal values, the first one of the
  first row has the derivative, as in torch.

  Args:
    x: the images.
    size: the size of the window.
    stride: the stride in both directions.
    padding: the padding on every side, of minus infinity.
    ceil: whether to keep a last window that reaches over the end (`ceil_mode`).
  """
  for axis in (2, 1):
    x = max_along(x, axis, size, stride, padding, ceil=ceil)
  return x


def max_along(
  x: types.Array,
  axis: int,
  size: int,
  stride: int,
  padding: int = 0,
  dilation: int = 1,
  *,
  ceil: bool = False,
) -> types.Array:
  """Returns the maxima of windows along one axis, as in `max_pool`.

  Args:
    x: an array.
    axis: the axis.
    size: the size of the window.
    stride: the stride.
    padding: the padding on both sides, of minus infinity.
    dilation: the step between the numbers of a window.
    ceil: whether to keep a last window that reaches over the end.
  """
  length, extent = x.shape[axis], dilation * (size - 1) + 1
  count, rest = divmod(length + 2 * padding - extent, stride)
  count += 1
  # The last window must begin within the image or the padding before it.
  if ceil and rest and count * stride < length + padding:
    count += 1
  reach = (count - 1) * stride + 1
  config = [(0, 0, 0)] * x.ndim
  config[axis] = (padding, max(reach - 1 + extent - length - padding, 0), 0)
  x = jax.lax.pad(x, jnp.array(-jnp.inf, x.dtype), config)
  out = jax.lax.slice_in_dim(x, 0, reach, stride, axis)
  for i in range(dilation, extent, dilation):
    part = jax.lax.slice_in_dim(x, i, i + reach, stride, axis)
    out = jnp.where((part > out) | jnp.isnan(part), part, out)
  return out


def average_pool(x: types.Array, size: int) -> types.Array:
  """torch.nn.AvgPool2d of stride `size` on [B, H, W, C]."""
  h, w = (n // size for n in x.shape[1:3])
  x = x[:, : h * size, : w * size]
  return x.reshape(len(x), h, size, w, size, -1).mean((2, 4))


def adaptive_average_pool(x: types.Array, size: int) -> types.Array:
  """torch.nn.AdaptiveAvgPool2d: maps [B, H, W, C] to [B, size, size, C]."""
  if x.shape[1:3] == (size, size):
    return x
  rows, columns = (_averages(n, size).astype(x.dtype) for n in x.shape[1:3])
  return jnp.einsum('ih,bhwc,jw->bijc', rows, x, columns)


def _averages(length, size):
  """Returns [size, length]: the weights of neighbouring, overlapping means."""
  i, at = np.arange(size)[:, None], np.arange(length)
  start, end = i * length // size, -(-(i + 1) * length // size)
  return ((start <= at) & (at < end)) / (end - start)


def global_average_pool(x: types.Array) -> types.Array:
  """Maps [B, H, W, C] to [B, C]."""
  return x.mean(axis=(1, 2))


def upsample(x: types.Array, factor: int) -> types.Array:
  """torch.nn.Upsample: repeats each pixel of [B, H, W, C] along both axes."""
  b, h, w, c = x.shape
  x = jnp.broadcast_to(x[:, :, None, :, None], (b, h, factor, w, factor, c))
  return x.reshape(b, h * factor, w * factor, c)
