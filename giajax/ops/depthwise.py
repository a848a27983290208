"""The lowering of depthwise convolutions: sums of shifted products.

XLA fuses the terms of such a sum into one loop over the image. Two things are
in its way on a CPU: the transpose of shifts, a sum of padded terms, is slower
than shifts of the flipped kernel; and a reduction over the image for each tap,
which is what JAX makes of the derivative to the kernel, is slower than taps
summed position by position, in a loop whose steps take 16 positions.
"""

import jax
from jax import lax
import jax.numpy as jnp

from giajax.ops import geometries

_POSITIONS = 16  # columns of the output that a step of the loop computes
_UNROLLED = 9  # taps; more are a loop over the kernel's rows


def faces(shapes: geometries.Shapes) -> geometries.Faces:
  """Shifted multiply-adds, for kernels of one channel per group.

  Args:
    shapes: the shapes of the convolution.

  Raises:
    ValueError: a kernel that is not depthwise.
  """
  geometry, (kh, kw, per_group, features) = shapes.geometry, shapes.kernel
  depthwise = per_group == 1 and features % geometry.groups == 0
  geometries.require(depthwise, 'shifts', 'a depthwise kernel', geometry)
  times = features // geometry.groups
  bare = geometry._replace(padding=((0, 0), (0, 0)))

  def widen(x):  # [B, H + padding, W + padding, P]
    x = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))
    return jnp.repeat(x, times, axis=-1)

  def output(x, kernel):
    return _correlate(widen(x), kernel, bare)

  def to_input(y, kernel):
    y = lax.pad(y, jnp.zeros((), y.dtype), _transposed_padding(shapes))
    x = _correlate(y, jnp.flip(kernel, (0, 1)), bare._replace(strides=(1, 1)))
    return x.reshape(*shapes.x, times).sum(-1) if times > 1 else x

  def to_kernel(x, y):
    if jax.default_backend() == 'cpu':
      return _by_position(widen(x), y, bare, (kh, kw))
    x = widen(x)
    taps = [
      (x * y).sum((0, 1, 2)) for x in geometries.windows(x, (kh, kw), bare)
    ]
    return jnp.stack(taps).reshape(shapes.kernel)

  return geometries.Faces(output, to_input, to_kernel)


def _correlate(x, kernel, bare):
  kh, kw = kernel.shape[:2]
  taps = kernel.reshape(kh, kw, -1)
  zero = jnp.zeros((), x.dtype)
  if kh * kw <= _UNROLLED:
    windows = geometries.windows(x, (kh, kw), bare)
    return sum(
      (w * tap for w, tap in zip(windows, taps.reshape(kh * kw, -1))), zero
    )
  (sh, _), (dh, _) = bare.strides, bare.dilation
  h, w = geometries.output_size(x.shape[1:3], (kh, kw), bare)

  def step(i, total):
    rows = lax.dynamic_slice_in_dim(x, i * dh, sh * (h - 1) + 1, 1)
    windows = geometries.windows(rows, (1, kw), bare)
    return total + sum((x * taps[i, j] for j, x in enumerate(windows)), zero)

  start = jnp.zeros((x.shape[0], h, w, x.shape[3]), x.dtype)
  return lax.fori_loop(0, kh, step, start)


def _transposed_padding(shapes):
  """Returns the padding that spreads and pads an output, as in `lax.pad`."""
  padding = geometries.transposed_padding(shapes)
  spread = [
    (lo, hi, s - 1) for (lo, hi), s in zip(padding, shapes.geometry.strides)
  ]
  return ((0, 0, 0), *spread, (0, 0, 0))


def _by_position(x, y, bare, size):
  """Returns the derivative for the kernel, [kh, kw, 1, P], by a loop."""
  (sh, sw), (dh, dw) = bare.strides, bare.dilation
  batch, h, w, features = y.shape
  reach = [d * (k - 1) + 1 for d, k in zip((dh, dw), size)]
  steps = -(-w // _POSITIONS)
  missing = steps * _POSITIONS - w
  y = jnp.pad(y, ((0, 0), (0, 0), (0, missing), (0, 0)))
  x = jnp.pad(x, ((0, 0), (0, 0), (0, missing * sw), (0, 0)))
  span = (_POSITIONS - 1) * sw + reach[1]

  def step(t, total):
    i, j = t // steps, t % steps * _POSITIONS
    dy = lax.dynamic_slice(y, (0, i, j, 0), (batch, 1, _POSITIONS, features))
    part = (batch, reach[0], span, features)
    part = lax.dynamic_slice(x, (0, i * sh, j * sw, 0), part)[:, ::dh]
    return total + sum(
      part[:, :, q * sw : q * sw + reach[1] : dw] * dy[:, :, q : q + 1]
      for q in range(_POSITIONS)
    )

  zeros = jnp.zeros((batch, *size, features), y.dtype)
  return lax.fori_loop(0, h * steps, step, zeros).sum(0)[:, :, None]
