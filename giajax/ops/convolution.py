"""One convolution, several lowerings, and the choice between them.

XLA's own rule for the derivative of a convolution to its kernel is a
convolution with batch and feature axes exchanged; under `vmap` over restarts
it becomes a grouped one, which on CPU runs 20-60 times slower than a matmul of
the same arithmetic and takes minutes to compile. Nothing here is therefore left
to that rule. A convolution is one form <y, x * k>, linear in each of the three,
and has three faces:

  output(x, k)     the convolution y = x * k
  to_input(y, k)   its transpose for a fixed kernel
  to_kernel(x, y)  its transpose for a fixed input, the weight gradient

The derivatives of any face are the two others, so a lowering that says how each
of them is computed is closed under differentiation of any order:

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

from giajax import registry
from giajax import types
from giajax.ops import blocks
from giajax.ops import bundles
from giajax.ops import depthwise
from giajax.ops import geometries
from giajax.ops import jaxprs
from giajax.ops import patches
from giajax.ops import phases
from giajax.ops import winograd
from giajax.ops import xla

SCOPE = 'giajax.convolution'  # of all that a lowering computes


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

  Pass it as `conv_general_dilated=` to `nnx.Conv` or `linen.Conv`, and the
  second derivatives of your own network stay fast.

  Args:
    lhs: [B, H, W, C] images.
    rhs: [kh, kw, C / groups, P].
    window_strides: the strides in both directions.
    padding: 'SAME', 'VALID' or (before, after) in both directions.
    lhs_dilation: None, or 1 in both directions.
    rhs_dilation: the dilation of the kernel.
    dimension_numbers: the layouts of NHWC x HWIO -> NHWC, as flax gives them.
    feature_group_count: the number of groups.
    precision: None; float32 is computed as such.
    preferred_element_type: None or the type of the images.
    out_sharding: None.

  Raises:
    ValueError: the layout, the number of dimensions or a value is another than
      those above.
  """
  layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
  plain = (
    layout == ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))  # NHWC, HWIO, NHWC
    and set(lhs_dilation or (1,)) == {1}
    and precision is None
    and out_sharding is None
    and preferred_element_type in (None, lhs.dtype)
  )
  if not plain:
    raise ValueError(
      'Expected an undilated, default-precision convolution of NHWC images '
      f'with an HWIO kernel; got {layout}, lhs_dilation={lhs_dilation}, '
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
    shared: whether all restarts share one kernel, a hint to 'auto'.

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
  400-800 from 32 channels and 8x8 images on, direct 240 but 20 with one kernel
  per restart, patches 100-230, less for few channels; blocks are twice as fast
  as patches at 12 channels and slower from 32 on. Accelerators take patches,
  where every product is a matmul that `vmap` lengthens.

  Each winograd site costs nearly a second of compilation. It gains little on
  small images where channels more than double or halve, and nothing where its
  kernels, four times as large, meet fewer than 256 positions and leave the
  cache.

  Args:
    shapes: the shapes of the convolution.
    shared: whether all restarts share one kernel.
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


@functools.cache
def _closed(
  shapes: geometries.Shapes,
  lowering: Callable[[geometries.Shapes], geometries.Faces],
) -> geometries.Faces:
  """Makes the derivatives of each face the two others."""
  # Inlined where they are called, but traced only once for all equal layers.
  traced = (
    jax.jit(jaxprs.inlined(_scoped(face)), inline=True)
    for face in lowering(shapes)
  )
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


def _scoped(face):
  """Returns a face whose equations are found by the name of their scope."""

  def scoped(*args):
    with jax.named_scope(SCOPE):
      return face(*args)

  return scoped


def _bundles(shapes: geometries.Shapes) -> geometries.Faces:
  """Groups side by side in dense kernels that hold zeros between them."""
  return bundles.faces(
    shapes, lambda inner: LOWERINGS[choose(inner, shared=False)](inner)
  )


LOWERINGS: dict[str, Callable[[geometries.Shapes], geometries.Faces]] = {
  'lax': xla.reference,
  'direct': xla.direct,
  'patches': patches.faces,
  'blocks': blocks.faces,
  'phases': phases.faces,
  'shifts': depthwise.faces,
  'winograd': winograd.faces,
  'bundles': _bundles,
}
