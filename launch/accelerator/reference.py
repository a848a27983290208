"""A convolution and its derivatives in float64, by NumPy on the host.

One form <y, x * k>, written out as sums over a kernel's taps: what every
lowering is compared with, and shares no code with any of them.
"""

from typing import NamedTuple

import numpy as np

from giajax.ops import geometries


class Derivatives(NamedTuple):
  """What a lowering has to compute.

  Attributes:
    value: y = x * k.
    first: w, the derivative of |y|^2 / 2 to the kernel.
    second: the derivative of |w|^2 / 2 to the images.
  """

  value: np.ndarray
  first: np.ndarray
  second: np.ndarray


def derivatives(
  x: np.ndarray, kernel: np.ndarray, geometry: geometries.Geometry
) -> Derivatives:
  """Returns the value and two derivatives of a convolution, float64.

  Args:
    x: [B, H, W, C] images.
    kernel: [kh, kw, C / groups, P].
    geometry: strides, padding, groups and dilation.
  """
  x, kernel = x.astype(np.float64), kernel.astype(np.float64)
  y = _output(x, kernel, geometry)
  first = _to_kernel(x, y, kernel.shape, geometry)
  second = _to_input(y, first, x.shape, geometry)
  through = _output(x, first, geometry)
  second += _to_input(through, kernel, x.shape, geometry)
  return Derivatives(y, first, second)


def _output(x, kernel, geometry):
  parts = [
    # [B, H', W', g, 1, c] times [g, c, p]
    part[..., None, :] @ _grouped(kernel[i, j], geometry)
    for (i, j), part in _taps(_padded(x, geometry), kernel.shape, geometry)
  ]
  y = np.sum(parts, axis=0)
  return y.reshape(*y.shape[:3], -1)


def _to_kernel(x, y, shape, geometry):
  kernel = np.zeros(shape)
  y = y.reshape(-1, geometry.groups, shape[3] // geometry.groups)
  for (i, j), part in _taps(_padded(x, geometry), shape, geometry):
    rows = part.reshape(-1, *part.shape[3:])
    own = rows.transpose(1, 2, 0) @ y.swapaxes(0, 1)  # [g, c, p]
    kernel[i, j] = own.swapaxes(0, 1).reshape(shape[2:])
  return kernel


def _to_input(y, kernel, x_shape, geometry):
  (top, bottom), (left, right) = geometry.padding
  x = np.zeros(x_shape)
  padded = _padded(x, geometry)
  y = y.reshape(*y.shape[:3], geometry.groups, 1, -1)
  for (i, j), part in _taps(padded, kernel.shape, geometry):
    own = y @ _grouped(kernel[i, j], geometry).swapaxes(1, 2)
    part += own.reshape(part.shape)  # a view of `padded`
  h, w = padded.shape[1:3]
  return padded[:, top : h - bottom, left : w - right]


def _grouped(tap, geometry):
  """Turns [c, P] into one matrix per group, [g, c, p]."""
  return tap.reshape(len(tap), geometry.groups, -1).swapaxes(0, 1)


def _padded(x, geometry):
  return np.pad(x, ((0, 0), *geometry.padding, (0, 0)))


def _taps(padded, kernel_shape, geometry):
  """Yields each tap and what it meets, a view [B, H', W', g, c]."""
  size, (sh, sw), (dh, dw) = padded.shape[1:3], *geometry[::3]
  kh, kw = kernel_shape[:2]
  h, w = (
    (n - d * (k - 1) - 1) // s + 1
    for n, k, s, d in zip(size, (kh, kw), (sh, sw), (dh, dw))
  )
  grouped = padded.reshape(*padded.shape[:3], geometry.groups, -1)
  for i in range(kh):
    for j in range(kw):
      rows = slice(i * dh, i * dh + sh * (h - 1) + 1, sh)
      columns = slice(j * dw, j * dw + sw * (w - 1) + 1, sw)
      yield (i, j), grouped[:, rows, columns]
