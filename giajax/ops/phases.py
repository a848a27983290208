"""The lowering of strided kernels: pixels that a stride skips are channels."""

import jax
from jax import lax
import jax.numpy as jnp

from giajax.ops import geometries
from giajax.ops import patches


def faces(shapes: geometries.Shapes) -> geometries.Faces:
  """A strided convolution as one of stride 1 over stride x stride channels.

  Args:
    shapes: the shapes of the convolution.

  Raises:
    ValueError: a convolution of several groups, or dilated.
  """
  geometry, (kh, kw, channels, features) = shapes.geometry, shapes.kernel
  undilated = geometry.groups == 1 and geometry.dilation == (1, 1)
  geometries.require(undilated, 'phases', 'one group and no dilation', geometry)
  (sh, sw), ((top, _), (left, _)) = geometry.strides, geometry.padding
  rows, columns = -(-kh // sh), -(-kw // sw)  # taps of stride 1
  batch, height, width, _ = shapes.x
  tall, wide = shapes.output[1] + rows - 1, shapes.output[2] + columns - 1

  def fold(x):  # [B, tall, wide, sh * sw * C]
    bottom, right = tall * sh - height - top, wide * sw - width - left
    edges = [(0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), edges)
    x = x.reshape(batch, tall, sh, wide, sw, channels).swapaxes(2, 3)
    return x.reshape(batch, tall, wide, -1)

  def pack(kernel):  # [rows, columns, sh * sw * C, P]
    edges = ((0, rows * sh - kh), (0, columns * sw - kw), (0, 0), (0, 0))
    kernel = jnp.pad(kernel, edges)
    kernel = kernel.reshape(rows, sh, columns, sw, channels, features)
    return kernel.swapaxes(1, 2).reshape(rows, columns, -1, features)

  depth = sh * sw * channels
  inner = patches.faces(
    geometries.Shapes(
      (batch, tall, wide, depth),
      (rows, columns, depth, features),
      geometries.Geometry(),
    )
  )

  def output(x, kernel):
    return inner.output(fold(x), pack(kernel))

  def to_input(y, kernel):
    x = inner.to_input(y, pack(kernel))
    return jax.linear_transpose(fold, jnp.zeros(shapes.x, x.dtype))(x)[0]

  def to_kernel(x, y):
    k = inner.to_kernel(fold(x), y)
    return jax.linear_transpose(pack, jnp.zeros(shapes.kernel, k.dtype))(k)[0]

  return geometries.Faces(output, to_input, to_kernel)
