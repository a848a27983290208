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
  shifts    a sum of shifted multiply-adds, for depthwise convolutions.
  winograd  minimal filtering F(4x4, 3x3): 36 products of tiles for 16 outputs
            of 9 taps each (Lavin and Gray, Fast Algorithms for Convolutional
            Neural Networks, CVPR 2016, arXiv 1509.09308), for 3x3 kernels of
            stride 1.

Layout is NHWC x HWIO -> NHWC throughout.
"""

from collections.abc import Callable, Sequence
import functools
import math
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from giajax import registry
from giajax import types

_NUMBERS = ('NHWC', 'HWIO', 'NHWC')


class Geometry(NamedTuple):
  """The static part of a convolution."""

  strides: tuple[int, int] = (1, 1)
  padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
  groups: int = 1
  dilation: tuple[int, int] = (1, 1)


class Faces(NamedTuple):
  """A convolution of fixed shapes and its two transposes.

  Attributes:
    output: `(x [B, H, W, C], kernel [kh, kw, C / groups, P]) -> [B, H', W',
      P]`.
    to_input: `(y [B, H', W', P], kernel) -> [B, H, W, C]`.
    to_kernel: `(x, y) -> [kh, kw, C / groups, P]`.
  """

  output: Callable[[types.Array, types.Array], types.Array]
  to_input: Callable[[types.Array, types.Array], types.Array]
  to_kernel: Callable[[types.Array, types.Array], types.Array]


class Shapes(NamedTuple):
  """What a lowering knows when it is chosen."""

  x: tuple[int, int, int, int]  # B, H, W, C
  kernel: tuple[int, int, int, int]  # kh, kw, C / groups, P
  geometry: Geometry

  @property
  def output(self) -> tuple[int, int, int, int]:
    """B, H', W', P."""
    size = output_size(self.x[1:3], self.kernel[:2], self.geometry)
    return (self.x[0], *size, self.kernel[3])


def convolve(
  x: types.Array,
  kernel: types.Array,
  geometry: Geometry = Geometry(),  # noqa: B008 an immutable record
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


def faces(
  x_shape: Sequence[int],
  kernel_shape: Sequence[int],
  geometry: Geometry = Geometry(),  # noqa: B008 an immutable record
  lowering: str = 'auto',
  shared: bool = True,
) -> Faces:
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
  shapes = Shapes(tuple(x_shape), tuple(kernel_shape), geometry)
  if lowering == 'auto':
    lowering = choose(shapes, shared)
  return _close(registry.lookup(LOWERINGS, lowering, 'lowering')(shapes))


def choose(shapes: Shapes, shared: bool = True) -> str:
  """Returns the lowering that measured fastest for a shape on this device.

  On one CPU core (GFLOP/s of the plain algorithm; sgemm reaches 240): winograd
  400-800 from 32 channels and 8x8 images on, direct 240 but 20 with a kernel a
  restart, patches 100-230, less for few channels; blocks are twice as fast as
  patches at 12 channels and slower from 32 on. Accelerators take patches,
  where every product is a matmul that `vmap` lengthens.

  Args:
    shapes: of the convolution.
    shared: whether all restarts have one kernel.
  """
  geometry, (kh, kw, per_group, features) = shapes.geometry, shapes.kernel
  if geometry.groups > 1:
    depthwise = per_group == 1 and features % geometry.groups == 0
    return 'shifts' if depthwise else 'lax'
  _, h, w, _ = shapes.output
  if jax.default_backend() != 'cpu' or kh * kw == 1:
    return 'patches'
  if features < 16 and geometry.dilation == (1, 1):
    return 'blocks'
  wide = min(per_group, features) >= 32 and h * w >= 64
  if wide and (kh, kw) == (3, 3) and _simple(geometry):
    return 'winograd'
  # On small images the flipped copy of the kernel costs more than patches.
  if shared and geometry.strides == (1, 1) and h * w > 64:
    return 'direct'
  return 'patches'


def output_size(
  image: Sequence[int], size: Sequence[int], geometry: Geometry
) -> tuple[int, int]:
  """Returns (H', W') of a convolution over an (H, W) image."""
  h, w = (
    (n + lo + hi - d * (k - 1) - 1) // s + 1
    for n, k, s, (lo, hi), d in zip(
      image, size, geometry.strides, geometry.padding, geometry.dilation
    )
  )
  return h, w


def patches(
  x: types.Array, size: tuple[int, int], geometry: Geometry
) -> types.Array:
  """Returns [B, H', W', kh*kw*C], ordered as a kernel reshaped to rows."""
  x = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))
  slices = [
    _window(x, i, j, size, geometry)
    for i in range(size[0])
    for j in range(size[1])
  ]
  return slices[0] if len(slices) == 1 else jnp.concatenate(slices, axis=-1)


def _close(bare: Faces) -> Faces:
  """Makes the derivatives of each face the two others."""
  y, x, k = (jax.custom_vjp(f) for f in bare)
  y.defvjp(
    lambda a, b: (y(a, b), (a, b)), lambda r, t: (x(t, r[1]), k(r[0], t))
  )
  x.defvjp(
    lambda a, b: (x(a, b), (a, b)), lambda r, t: (y(t, r[1]), k(t, r[0]))
  )
  k.defvjp(
    lambda a, b: (k(a, b), (a, b)), lambda r, t: (x(r[1], t), y(r[0], t))
  )
  return Faces(y, x, k)


def _transposed(output: Callable[..., Any], shapes: Shapes) -> Faces:
  """The faces of a lowering whose transposes are left to JAX."""

  def to_input(y, kernel):
    at = jnp.zeros(shapes.x, y.dtype)
    return jax.linear_transpose(lambda x: output(x, kernel), at)(y)[0]

  def to_kernel(x, y):
    at = jnp.zeros(shapes.kernel, y.dtype)
    return jax.linear_transpose(lambda k: output(x, k), at)(y)[0]

  return Faces(output, to_input, to_kernel)


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
  _require(geometry.groups == 1, 'direct', 'one group', geometry)
  config = [(0, 0, 0)]
  for n, m, k, s, (lo, _), d in zip(
    shapes.x[1:3],
    shapes.output[1:3],
    shapes.kernel[:2],
    geometry.strides,
    geometry.padding,
    geometry.dilation,
  ):
    before = d * (k - 1) - lo
    config.append((before, n - before - ((m - 1) * s + 1) + d * (k - 1), s - 1))

  def to_input(y, kernel):
    spread = lax.pad(y, jnp.zeros((), y.dtype), (*config, (0, 0, 0)))
    flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    return lax.conv_general_dilated(
      spread,
      flipped,
      (1, 1),
      'VALID',
      rhs_dilation=geometry.dilation,
      dimension_numbers=_NUMBERS,
    )

  return Faces(_lax(shapes).output, to_input, _patches(shapes).to_kernel)


def _patches(shapes):
  """Patches of the image, then one matmul."""
  geometry = shapes.geometry
  _require(geometry.groups == 1, 'patches', 'one group', geometry)
  size, features = shapes.kernel[:2], shapes.kernel[3]

  def output(x, kernel):
    return patches(x, size, geometry) @ kernel.reshape(-1, features)

  def to_kernel(x, y):
    rows = patches(x, size, geometry)
    return jnp.einsum('bhwd,bhwp->dp', rows, y).reshape(shapes.kernel)

  return _transposed(output, shapes)._replace(to_kernel=to_kernel)


def _shifts(shapes):
  """A sum of shifted multiply-adds, for depthwise kernels."""
  geometry, (kh, kw, per_group, features) = shapes.geometry, shapes.kernel
  depthwise = per_group == 1 and features % geometry.groups == 0
  _require(depthwise, 'shifts', 'a depthwise kernel', geometry)

  def output(x, kernel):
    x = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))
    x = jnp.repeat(x, features // geometry.groups, axis=-1)
    return sum(
      _window(x, i, j, (kh, kw), geometry) * kernel[i, j, 0]
      for i in range(kh)
      for j in range(kw)
    )

  return _transposed(output, shapes)


def _window(x, i, j, size, geometry):
  """The strided slice of a padded image that meets kernel tap (i, j)."""
  (sh, sw), (dh, dw) = geometry.strides, geometry.dilation
  bare = geometry._replace(padding=((0, 0), (0, 0)))
  h, w = output_size(x.shape[1:3], size, bare)
  i, j = i * dh, j * dw
  return x[:, i : i + sh * (h - 1) + 1 : sh, j : j + sw * (w - 1) + 1 : sw]


def _blocks(shapes, width=None):
  """Patches of several neighbouring outputs, for narrow kernels."""
  geometry, (kh, kw, channels, features) = shapes.geometry, shapes.kernel
  undilated = geometry.groups == 1 and geometry.dilation == (1, 1)
  _require(undilated, 'blocks', 'one group and no dilation', geometry)
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
  """The block of at least 64 output columns that wastes least of a row."""
  wanted = min(outputs, max(1, -(-64 // features)))
  return min(
    range(wanted, min(outputs, 2 * wanted) + 1),
    key=lambda m: (-(-outputs // m) * m, m),
  )


def _winograd(shapes):
  """Minimal filtering F(4x4, 3x3), for 3x3 kernels of stride 1."""
  geometry = shapes.geometry
  fits = shapes.kernel[:2] == (3, 3) and _simple(geometry)
  expected = 'a 3x3 kernel of stride 1, one group and no dilation'
  _require(fits, 'winograd', expected, geometry)
  _, height, width, _ = shapes.x
  _, h, w, _ = shapes.output
  (top, bottom), (left, right) = geometry.padding
  rest = ((0, 0), (0, -h % 4), (0, -w % 4), (0, 0))

  def tiles(x):  # [6, 6, B, H' / 4, W' / 4, C], column of the tile first
    config = ((0, 0), (top, bottom + -h % 4), (left, right + -w % 4), (0, 0))
    return _split(_split(jnp.pad(x, config), 1), 3)

  def spread(y):  # [6, 6, B, H' / 4, W' / 4, P]
    y = jnp.pad(y, rest)
    for axis in (1, 3):
      parts = [lax.slice_in_dim(y, i, None, 4, axis) for i in range(4)]
      y = jnp.stack(_fan_out(_A, parts))
    return y

  def output(x, kernel):
    product = jnp.einsum(
      'jibhwc,jicp->jibhwp', tiles(x), _transform(kernel, _fan_out, _G)
    )
    for axis in (3, 1):
      product = _interleave(_fan_in(_A.T, list(product)), axis)
    return product[:, :h, :w]

  def to_input(y, kernel):
    # A transposition fused into the transform would be many times slower.
    swapped = lax.map(lambda k: k.swapaxes(1, 2), kernel)
    flat = _transform(swapped, _fan_out, _G)
    product = jnp.einsum('jibhwp,jipc->jibhwc', spread(y), flat)
    x = _join(_join(product, 3), 1)
    return x[:, top : top + height, left : left + width]

  def to_kernel(x, y):
    product = lax.map(  # for the same reason not one batched product
      lambda vm: jnp.einsum('ibhwc,ibhwp->icp', *vm), (tiles(x), spread(y))
    )
    return _transform(product, _fan_in, _G.T)

  return Faces(output, to_input, to_kernel)


def _simple(geometry):
  return geometry == Geometry(padding=geometry.padding)


def _split(x, axis):
  """Overlapping 6-wide tiles of an axis of 4n + 2, transformed, in front."""
  stop = x.shape[axis]
  parts = [lax.slice_in_dim(x, i, stop - 5 + i, 4, axis) for i in range(6)]
  return jnp.stack(_fan_out(_B, parts))


def _join(tiles, axis):
  """The transpose of `_split`: adds tiles up where they overlap."""
  parts = _fan_in(_B.T, list(tiles))
  config = [[(0, 0)] * parts[0].ndim for _ in range(2)]
  config[0][axis], config[1][axis] = (0, 1), (1, 0)
  early = [jnp.pad(p, config[0]) for p in parts[:4]]
  late = [jnp.pad(p, config[1]) for p in parts[4:]]
  return _interleave([early[0] + late[0], early[1] + late[1], *early[2:]], axis)


def _interleave(phases, axis):
  """Makes corresponding entries of arrays neighbours along an axis."""
  shape = list(phases[0].shape)
  shape[axis] *= len(phases)
  return jnp.stack(phases, axis + 1).reshape(shape)


def _transform(kernel, fan, matrix):
  """Maps both axes in front by a matrix and exchanges them."""
  for axis in (0, 1):
    n = kernel.shape[axis]
    parts = [lax.index_in_dim(kernel, i, axis, False) for i in range(n)]
    kernel = jnp.stack(fan(matrix, parts))
  return kernel


def _fan_out(matrix, parts):
  """Applies a [6, n] matrix whose rows 1, 2 and 3, 4 are mirror points."""
  return _mirror(_combine(_HALVES @ _MIRROR @ matrix, parts))


def _fan_in(matrix, parts):
  """Applies an [n, 6] matrix whose columns 1, 2 and 3, 4 are such points."""
  return _combine(matrix @ _MIRROR @ _HALVES, _mirror(parts))


def _mirror(p):
  """Sums and differences at mirror points: half of a transform's work."""
  return [p[0], p[1] + p[2], p[1] - p[2], p[3] + p[4], p[3] - p[4], p[5]]


def _combine(matrix, parts):
  """Linear combinations of equally shaped arrays, a row of `matrix` each."""
  return [
    functools.reduce(
      jnp.add,
      [p if m == 1 else float(m) * p for m, p in zip(row, parts) if m],
    )
    for row in np.where(np.abs(matrix) < 1e-9, 0, matrix)
  ]


def _toom_cook(outputs, taps):
  """Returns A [n, m], G [n, r] and B [n, n] of F(m, r), n = m + r - 1 = 6.

  The points 0, +-sqrt(1/2), +-sqrt(2) and infinity gave a third of the error
  of the customary 0, +-1, +-2 and infinity in float32.
  """
  points = np.array([0, 1, -1, 2, -2]) / math.sqrt(2)
  others = [np.delete(points, i) for i in range(5)]
  scale = [np.prod(p - o) for p, o in zip(points, others)]
  a = np.vander(points, outputs, increasing=True)
  g = np.vander(points, taps, increasing=True) / np.array(scale)[:, None]
  b = [np.append(np.poly(o)[::-1], 0) for o in others]
  return (
    np.r_[a, np.eye(outputs)[-1:]],
    np.r_[g, np.eye(taps)[-1:]],
    np.array([*b, np.poly(points)[::-1]]),
  )


_A, _G, _B = _toom_cook(4, 3)
_MIRROR = np.array(_mirror(np.eye(6)))
_HALVES = np.diag([1, 0.5, 0.5, 0.5, 0.5, 1])


def _require(condition, lowering, expected, geometry):
  if not condition:
    raise ValueError(
      f'Expected {expected} for lowering={lowering!r}; got {geometry}; '
      "use lowering='auto'"
    )


LOWERINGS = {
  'lax': _lax,
  'direct': _direct,
  'patches': _patches,
  'blocks': _blocks,
  'shifts': _shifts,
  'winograd': _winograd,
}
