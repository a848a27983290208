"""One convolution, several lowerings, and the choice between them.

XLA's own rule for the derivative of a convolution to its kernel is a
convolution with batch and feature axes exchanged; under `vmap` over restarts
it becomes a grouped one, which on CPU runs 20-60 times slower than a matmul of
the same arithmetic and takes minutes to compile. So nothing here is left to
that rule. A convolution is one form <y, x * k>, linear in each of the three,
and has three faces:

  output(x, k)     the convolution y = x * k
  to_input(y, k)   its transpose for a fixed kernel
  to_kernel(x, y)  its transpose for a fixed input, the weight gradient

The derivatives of any face are the two others, so that a lowering which says
how each of them is computed is closed under differentiation of any order:

  lax       `jax.lax.conv_general_dilated` and its own derivatives, the
            reference.
  direct    XLA's forward convolution for the output and, with the flipped
            kernel, for the input. Fast where all restarts share the kernel.
  patches   shifted slices concatenated to patches, then one matmul. Costs
            kh*kw times the input in memory.
  blocks    patches that yield several neighbouring outputs at once, for
            kernels too narrow to fill a matmul.
  phases    the pixels that a stride skips become channels, so that large
            strided kernels are patches of a few taps of stride 1.
  shifts    a sum of shifted multiply-adds, for depthwise convolutions.
  winograd  minimal filtering F(4x4, 3x3): 36 products of tiles for 16 outputs
            of 9 taps each (Lavin and Gray, Fast Algorithms for Convolutional
            Neural Networks, CVPR 2016, arXiv 1509.09308), for 3x3 kernels of
            stride 1.
  bundles   groups side by side in dense kernels that fill a matmul, with zeros
            between them, by whatever lowering suits one of those; for grouped
            convolutions.

Layout is NHWC x HWIO -> NHWC throughout.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

from giajax import registry
from giajax import types
from giajax.ops import depthwise
from giajax.ops import geometries
from giajax.ops import winograd

_NUMBERS = ('NHWC', 'HWIO', 'NHWC')
_BUNDLE = 32  # channels, at least; fewer do not fill a matmul


def convolve(
  x: types.Array,
  kernel: types.Array,
  geometry: geometries.Geometry = geometries.Geometry(),  # noqa: B008 an immutable record
  lowering: str = 'auto',
) -> types.Array:
  """Returns the cross-correlation of images with a kernel.

  Args:
    x: [B, H, W, C] images.
    kernel: [kh, kw, C / groups, P].
    geometry: strides, padding, groups and dilation.
    lowering: a name in `LOWERINGS`, or 'auto'.

  Returns:
    [B, H', W', P].

  Raises:
    ValueError: an unknown lowering, or one that cannot do this geometry.
  """
  return faces(x.shape, kernel.shape, geometry, lowering).output(x, kernel)


def conv_general_dilated(
  lhs: types.Array,
  rhs: types.Array,
  window_strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
  lhs_dilation: Sequence[int] | None = None,
  rhs_dilation: Sequence[int] | None = None,
  dimension_numbers: Any = None,
  feature_group_count: int = 1,
  precision: Any = None,
  preferred_element_type: Any = None,
  out_sharding: Any = None,
) -> types.Array:
  """`convolve` with the signature of JAX's, for flax's Conv layers.

  Pass it as `conv_general_dilated=` to `nnx.Conv` or `linen.Conv`, so that a
  network of your own has second derivatives that stay fast.

  Args:
    lhs: [B, H, W, C] images.
    rhs: [kh, kw, C / groups, P].
    window_strides: in both directions.
    padding: 'SAME', 'VALID' or (before, after) in both directions.
    lhs_dilation: none, or 1.
    rhs_dilation: of the kernel.
    dimension_numbers: of NHWC x HWIO -> NHWC, as flax gives them.
    feature_group_count: groups.
    precision: None; float32 is computed as such.
    preferred_element_type: None or that of the images.
    out_sharding: None.

  Raises:
    ValueError: anything else than two dimensions in that layout.
  """
  found = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
  plain = (
    found == ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))  # NHWC, HWIO, NHWC
    and set(lhs_dilation or (1,)) == {1}
    and precision is None
    and out_sharding is None
    and preferred_element_type in (None, lhs.dtype)
  )
  if not plain:
    raise ValueError(
      'Expected an undilated, default-precision convolution of NHWC images '
      f'with an HWIO kernel; got {found}, lhs_dilation={lhs_dilation}, '
      f"precision={precision}; use jax's own"
    )
  dh, dw = rhs_dilation or (1, 1)
  size = [dh * (rhs.shape[0] - 1) + 1, dw * (rhs.shape[1] - 1) + 1]
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(lhs.shape[1:3], size, window_strides, padding)
  (top, bottom), (left, right) = padding
  sh, sw = window_strides
  geometry = geometries.Geometry(
    (sh, sw), ((top, bottom), (left, right)), feature_group_count, (dh, dw)
  )
  return convolve(lhs, rhs, geometry)


def faces(
  x_shape: Sequence[int],
  kernel_shape: Sequence[int],
  geometry: geometries.Geometry = geometries.Geometry(),  # noqa: B008 an immutable record
  lowering: str = 'auto',
  shared: bool = True,
) -> geometries.Faces:
  """Returns a convolution and its transposes, each the others' derivative.

  Args:
    x_shape: (B, H, W, C).
    kernel_shape: (kh, kw, C / groups, P).
    geometry: strides, padding, groups and dilation.
    lowering: a name in `LOWERINGS`, or 'auto'.
    shared: whether all restarts have one kernel, a hint to 'auto'.

  Raises:
    ValueError: an unknown lowering, or one that cannot do this geometry.
  """
  shapes = geometries.Shapes(tuple(x_shape), tuple(kernel_shape), geometry)
  if lowering == 'auto':
    lowering = choose(shapes, shared)
  return _closed(shapes, registry.lookup(LOWERINGS, lowering, 'lowering'))


def choose(shapes: geometries.Shapes, shared: bool = True) -> str:
  """Returns the lowering that measured fastest for a shape on this device.

  On one CPU core (GFLOP/s of the plain algorithm; sgemm reaches 240): winograd
  400-800 from 32 channels and 8x8 images on, direct 240 but 20 with a kernel a
  restart, patches 100-230, less for few channels; blocks are twice as fast as
  patches at 12 channels and slower from 32 on. Accelerators take patches,
  where every product is a matmul that `vmap` lengthens.

  Each winograd site costs nearly a second of compilation. It gains little on
  small images where channels more than double or halve, and nothing where its
  kernels, four times as large, meet fewer than 256 positions and leave the
  cache.

  Args:
    shapes: of the convolution.
    shared: whether all restarts have one kernel.
  """
  geometry, (kh, kw, per_group, features) = shapes.geometry, shapes.kernel
  if geometry.groups > 1:
    return 'shifts' if per_group == 1 else 'bundles'
  b, h, w, _ = shapes.output
  tiles = geometry.strides == (kh, kw)
  if jax.default_backend() != 'cpu' or tiles or kh * kw == 1:
    return 'patches'
  if features < 16 and geometry.dilation == (1, 1):
    return 'blocks'
  sh, sw = geometry.strides
  padded = -(-kh // sh) * -(-kw // sw) * sh * sw
  if sh * sw > 1 and padded <= 4 / 3 * kh * kw and geometry.dilation == (1, 1):
    return 'phases'
  few, many = sorted((per_group, features))
  wide = few >= 32 and h * w >= (64 if many <= 2 * few else 1024)
  busy = b * h * w >= 256 or few * many <= 64 * 64
  if wide and busy and (kh, kw) == (3, 3) and geometries.simple(geometry):
    return 'winograd'
  # On small images the flipped copy of the kernel costs more than patches.
  if shared and geometry.strides == (1, 1) and h * w > 64:
    return 'direct'
  return 'patches'


def patches(
  x: types.Array, size: tuple[int, int], geometry: geometries.Geometry
) -> types.Array:
  """Returns [B, H', W', kh*kw*C], ordered as a kernel reshaped to rows."""
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


@functools.cache
def _closed(
  shapes: geometries.Shapes,
  lowering: Callable[[geometries.Shapes], geometries.Faces],
) -> geometries.Faces:
  """Makes the derivatives of each face the two others."""
  # Inlined where they are called, but traced only once for all layers alike.
  traced = (jax.jit(face, inline=True) for face in lowering(shapes))
  y, x, k = (jax.custom_vjp(face) for face in traced)
  y.defvjp(
    lambda a, b: (y(a, b), (a, b)), lambda r, t: (x(t, r[1]), k(r[0], t))
  )
  x.defvjp(
    lambda a, b: (x(a, b), (a, b)), lambda r, t: (y(t, r[1]), k(t, r[0]))
  )
  k.defvjp(
    lambda a, b: (k(a, b), (a, b)), lambda r, t: (x(r[1], t), y(r[0], t))
  )
  return geometries.Faces(y, x, k)


def _transposed(
  output: Callable[..., Any], shapes: geometries.Shapes
) -> geometries.Faces:
  """The faces of a lowering whose transposes are left to JAX."""

  def to_input(y, kernel):
    at = jnp.zeros(shapes.x, y.dtype)
    return jax.linear_transpose(lambda x: output(x, kernel), at)(y)[0]

  def to_kernel(x, y):
    at = jnp.zeros(shapes.kernel, y.dtype)
    return jax.linear_transpose(lambda k: output(x, k), at)(y)[0]

  return geometries.Faces(output, to_input, to_kernel)


def _lax(shapes):
  """XLA's convolution with its own derivatives, the reference."""
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

  return _transposed(output, shapes)


def _direct(shapes):
  """XLA's forward convolution, also for the derivative to the input."""
  geometry = shapes.geometry
  geometries.require(geometry.groups == 1, 'direct', 'one group', geometry)
  padding = []
  for n, m, k, s, (lo, _), d in zip(
    shapes.x[1:3],
    shapes.output[1:3],
    shapes.kernel[:2],
    geometry.strides,
    geometry.padding,
    geometry.dilation,
  ):
    before = d * (k - 1) - lo
    padding.append((before, n - before - ((m - 1) * s + 1) + d * (k - 1)))

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
    _lax(shapes).output, to_input, _patches(shapes).to_kernel
  )


def _patches(shapes):
  """Patches of the image, then one matmul."""
  geometry, size = shapes.geometry, shapes.kernel[:2]
  geometries.require(geometry.groups == 1, 'patches', 'one group', geometry)

  def output(x, kernel):
    return patches(x, size, geometry) @ kernel.reshape(-1, shapes.kernel[3])

  def to_kernel(x, y):
    # In this order no transposed copy of the patches is made.
    axes = ((0, 1, 2), (0, 1, 2))
    rows = patches(x, size, geometry)
    transposed = lax.dot_general(y, rows, (axes, ((), ())))
    return transposed.T.reshape(shapes.kernel)

  return _transposed(output, shapes)._replace(to_kernel=to_kernel)


def _blocks(shapes, width=None):
  """Patches of several neighbouring outputs, for narrow kernels."""
  geometry, (kh, kw, channels, features) = shapes.geometry, shapes.kernel
  undilated = geometry.groups == 1 and geometry.dilation == (1, 1)
  geometries.require(undilated, 'blocks', 'one group and no dilation', geometry)
  _, h, w, _ = shapes.output
  width = width or _block_width(w, features)
  (sh, sw), count = geometry.strides, -(-w // width)
  span = (width - 1) * sw + kw
  (top, bottom), (left, right) = geometry.padding
  extra = (count * width - 1) * sw + kw - shapes.x[2] - left - right

  def widen(kernel):
    """[kh * span * C, width * P]: the kernel at each place in a block."""
    places = [
      jnp.pad(kernel, ((0, 0), (q * sw, span - kw - q * sw), (0, 0), (0, 0)))
      for q in range(width)
    ]
    wide = jnp.stack(places, axis=3)
    return wide.reshape(kh * span * channels, width * features)

  def output(x, kernel):
    right_most = right + max(extra, 0)
    x = jnp.pad(x, ((0, 0), (top, bottom), (left, right_most), (0, 0)))
    starts = range(0, count * width * sw, width * sw)
    columns = [
      x[:, :, q : q + span].reshape(*x.shape[:2], span * channels)
      for q in starts
    ]
    x = jnp.stack(columns, axis=2)  # [B, H, count, span * C]
    rows = [x[:, i : i + sh * (h - 1) + 1 : sh] for i in range(kh)]
    y = jnp.concatenate(rows, axis=-1) @ widen(kernel)
    return y.reshape(*y.shape[:2], count * width, features)[:, :, :w]

  return _transposed(output, shapes)


def _block_width(outputs, features):
  """The block of at least 48 output columns that wastes least of a row."""
  wanted = min(outputs, max(1, -(-48 // features)))
  return min(
    range(wanted, min(outputs, 2 * wanted) + 1),
    key=lambda m: (-(-outputs // m) * m, m),
  )


def _phases(shapes):
  """A strided convolution as one of stride 1 over stride x stride channels."""
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
  inner = _patches(
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


def _bundles(shapes):
  """Groups side by side in dense kernels that hold zeros between them."""
  geometry, (kh, kw, per_group, features) = shapes.geometry, shapes.kernel
  groups, apart = geometry.groups, features // geometry.groups
  size = next(  # groups a bundle
    n
    for n in range(1, groups + 1)
    if groups % n == 0 and n * per_group >= min(_BUNDLE, groups * per_group)
  )
  count, depth = groups // size, size * per_group
  inner = geometries.Shapes(
    (*shapes.x[:3], depth),
    (kh, kw, depth, size * apart),
    geometry._replace(groups=1),
  )
  lowering = LOWERINGS[choose(inner, shared=False)]
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


LOWERINGS = {
  'lax': _lax,
  'direct': _direct,
  'patches': _patches,
  'blocks': _blocks,
  'phases': _phases,
  'shifts': depthwise.faces,
  'winograd': winograd.faces,
  'bundles': _bundles,
}
