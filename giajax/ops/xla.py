"""The lowerings that leave the convolution itself to XLA."""

from jax import lax
import jax.numpy as jnp

from giajax.ops import geometries
from giajax.ops import patches

_NUMBERS = ('NHWC', 'HWIO', 'NHWC')


def reference(shapes: geometries.Shapes) -> geometries.Faces:
  """XLA's convolution with its own derivatives, the reference.

  Args:
    shapes: the shapes of the convolution.
  """
  geometry = shapes.geometry

  def output(x, kernel):
    return lax.conv_general_dilated(
      x,
      kernel,
      geometry.strides,
      geometry.padding,
      rhs_dilation=geometry.dilation,
      dimension_numbers=_NUMBERS,
      feature_group_count=geometry.groups,
    )

  return geometries.by_transposition(output, shapes)


def direct(shapes: geometries.Shapes) -> geometries.Faces:
  """XLA's forward convolution, for the output and for the input's derivative.

  Args:
    shapes: the shapes of the convolution.

  Raises:
    ValueError: a convolution of several groups.
  """
  geometry = shapes.geometry
  geometries.require(geometry.groups == 1, 'direct', 'one group', geometry)
  padding = geometries.transposed_padding(shapes)

  def to_input(y, kernel):
    if geometry.strides != (1, 1):
      interior = [(0, 0, s - 1) for s in geometry.strides]
      y = lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), *interior, (0, 0, 0)])
    flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    return lax.conv_general_dilated(
      y,
      flipped,
      (1, 1),
      padding,
      rhs_dilation=geometry.dilation,
      dimension_numbers=_NUMBERS,
    )

  return geometries.Faces(
    reference(shapes).output, to_input, patches.faces(shapes).to_kernel
  )
