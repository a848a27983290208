"""The lowering of convolutions to patches of the image and one matmul."""

from jax import lax
import jax.numpy as jnp

from giajax import types
from giajax.ops import geometries


def faces(shapes: geometries.Shapes) -> geometries.Faces:
  """Patches of the image, then one matmul.

  Args:
    shapes: the shapes of the convolution.

  Raises:
    ValueError: a convolution of several groups.
  """
  geometry, (kh, kw, _, features) = shapes.geometry, shapes.kernel
  size = kh, kw
  geometries.require(geometry.groups == 1, 'patches', 'one group', geometry)

  def output(x, kernel):
    return unfold(x, size, geometry) @ kernel.reshape(-1, features)

  def to_kernel(x, y):
    # In this order no transposed copy of the patches is made.
    axes = ((0, 1, 2), (0, 1, 2))
    rows = unfold(x, size, geometry)
    transposed = lax.dot_general(y, rows, (axes, ((), ())))
    return transposed.T.reshape(shapes.kernel)

  return geometries.by_transposition(output, shapes)._replace(
    to_kernel=to_kernel
  )


def unfold(
  x: types.Array, size: tuple[int, int], geometry: geometries.Geometry
) -> types.Array:
  """Returns the patches of images, ordered as a kernel reshaped to rows.

  Args:
    x: [B, H, W, C].
    size: (kh, kw).
    geometry: strides, padding, groups and dilation.

  Returns:
    [B, H', W', kh*kw*C].
  """
  if geometry == geometries.Geometry(size, groups=geometry.groups):
    return _tiles(x, size)
  slices = geometries.windows(x, size, geometry)
  return slices[0] if len(slices) == 1 else jnp.concatenate(slices, axis=-1)


def _tiles(x, size):
  """Patches that do not overlap, in one transpose."""
  b, h, w, c = x.shape
  (kh, kw), rows, columns = size, h // size[0], w // size[1]
  x = x[:, : rows * kh, : columns * kw]
  x = x.reshape(b, rows, kh, columns, kw, c).swapaxes(2, 3)
  return x.reshape(b, rows, columns, kh * kw * c)
