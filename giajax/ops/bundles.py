"""The lowering of grouped convolutions to dense kernels that fill a matmul."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from giajax.ops import geometries

_CHANNELS = 32  # channels of a bundle, at least; fewer do not fill a matmul


def faces(
  shapes: geometries.Shapes,
  lowering: Callable[[geometries.Shapes], geometries.Faces],
) -> geometries.Faces:
  """Groups side by side in dense kernels that hold zeros between them.

  Args:
    shapes: the shapes of the convolution.
    lowering: the lowering of one bundle, by its shapes.
  """
  geometry, (kh, kw, per_group, features) = shapes.geometry, shapes.kernel
  groups, apart = geometry.groups, features // geometry.groups
  size = next(  # groups per bundle
    n
    for n in range(1, groups + 1)
    if groups % n == 0 and n * per_group >= min(_CHANNELS, groups * per_group)
  )
  count, depth = groups // size, size * per_group
  inner = geometries.Shapes(
    (*shapes.x[:3], depth),
    (kh, kw, depth, size * apart),
    geometry._replace(groups=1),
  )
  dense = geometries.Faces(*map(jax.vmap, lowering(inner)))

  def split(x):  # [count, B, H, W, C / count]
    return jnp.moveaxis(x.reshape(*x.shape[:3], count, -1), 3, 0)

  def join(x):
    x = jnp.moveaxis(x, 0, 3)
    return x.reshape(*x.shape[:3], -1)

  def pack(kernel):  # [count, kh, kw, C / count, P / count]
    parts = kernel.reshape(kh, kw, per_group, count, size, apart)
    own = jnp.eye(size, dtype=kernel.dtype)
    parts = jnp.einsum('hwcbgp,fg->bhwfcgp', parts, own)
    return parts.reshape(count, *inner.kernel)

  def output(x, kernel):
    return join(dense.output(split(x), pack(kernel)))

  def to_input(y, kernel):
    return join(dense.to_input(split(y), pack(kernel)))

  def to_kernel(x, y):
    k = dense.to_kernel(split(x), split(y))
    return jax.linear_transpose(pack, jnp.zeros(shapes.kernel, k.dtype))(k)[0]

  return geometries.Faces(output, to_input, to_kernel)
