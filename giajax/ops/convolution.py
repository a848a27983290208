"""One convolution, several lowerings, and the choice between them.

XLA's own rule for the derivative of a convolution to its kernel is a
convolution with batch and feature axes exchanged; under `vmap` over restarts
it becomes a grouped one, which on CPU runs 20-60 times slower than a matmul of
the same arithmetic and takes minutes to compile. Every lowering here computes
the same function and is closed under differentiation, so that second
derivatives stay on fast paths too:

  lax       `jax.lax.conv_general_dilated` and its own derivatives, the
            reference.
  direct    the same forward pass; the derivative to the input is again a
            direct convolution, the derivative to the kernel is patches x
            matmul. Fastest where the kernel is shared by all restarts.
  patches   shifted slices concatenated to patches, then one matmul: its
            derivatives are matmuls too, whatever is batched. Costs kh*kw times
            the input in memory.
  shifts    a sum of shifted multiply-adds, for depthwise convolutions.
  winograd  F(4x4, 3x3) minimal filtering as 36 matmuls (Lavin and Gray, Fast
            Algorithms for Convolutional Neural Networks, CVPR 2016,
            arXiv 1509.09308) for 3x3 kernels of stride 1.

Layout is NHWC x HWIO -> NHWC throughout.
"""

from collections.abc import Sequence
import functools
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from giajax import registry
from giajax import types

_NUMBERS = ('NHWC', 'HWIO', 'NHWC')


class Geometry(NamedTuple):
  """The static part of a convolution."""

  strides: tuple[int, int] = (1, 1)
  padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
  groups: int = 1
  dilation: tuple[int, int] = (1, 1)


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
  if lowering == 'auto':
    lowering = choose(x.shape, kernel.shape, geometry)
  return registry.lookup(LOWERINGS, lowering, 'lowering')(x, kernel, geometry)


def choose(
  x_shape: Sequence[int], kernel_shape: Sequence[int], geometry: Geometry
) -> str:
  """Returns the lowering that measured fastest for a shape on this device."""
  kh, kw, per_group, features = kernel_shape
  if geometry.groups > 1:
    depthwise = per_group == 1 and features == geometry.groups
    return 'shifts' if depthwise else 'lax'
  h, w = output_size(x_shape[1:3], (kh, kw), geometry)
  # On small images the flipped copy of the kernel costs more than patches.
  if geometry.strides != (1, 1) or kh * kw == 1 or h * w <= 64:
    return 'patches'
  return 'direct'


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


def _lax(x, kernel, geometry):
  return lax.conv_general_dilated(
    x,
    kernel,
    geometry.strides,
    geometry.padding,
    rhs_dilation=geometry.dilation,
    dimension_numbers=_NUMBERS,
    feature_group_count=geometry.groups,
  )


def _patches(x, kernel, geometry):
  _require(geometry.groups == 1, 'patches', 'one group', geometry)
  flat = kernel.reshape(-1, kernel.shape[-1])
  return patches(x, kernel.shape[:2], geometry) @ flat


def _shifts(x, kernel, geometry):
  kh, kw, per_group, features = kernel.shape
  _require(
    per_group == 1 and features % geometry.groups == 0,
    'shifts',
    'a depthwise kernel',
    geometry,
  )
  x = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))
  x = jnp.repeat(x, features // geometry.groups, axis=-1)
  return sum(
    _window(x, i, j, (kh, kw), geometry) * kernel[i, j, 0]
    for i in range(kh)
    for j in range(kw)
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _direct(x, kernel, geometry):
  _require(geometry.groups == 1, 'direct', 'one group', geometry)
  return _lax(x, kernel, geometry)


def _direct_forward(x, kernel, geometry):
  return _direct(x, kernel, geometry), (x, kernel)


def _direct_backward(geometry, residuals, dy):
  x, kernel = residuals
  dx = _input_gradient(dy, kernel, geometry, x.shape)
  rows = patches(x, kernel.shape[:2], geometry)
  dkernel = jnp.einsum('bhwd,bhwp->dp', rows, dy).reshape(kernel.shape)
  return dx, dkernel


_direct.defvjp(_direct_forward, _direct_backward)


def _input_gradient(dy, kernel, geometry, x_shape):
  """The derivative to the input, itself a direct convolution of stride 1."""
  kh, kw = kernel.shape[:2]
  config = [(0, 0, 0)]
  for n, m, k, s, (lo, _), d in zip(
    x_shape[1:3],
    dy.shape[1:3],
    (kh, kw),
    geometry.strides,
    geometry.padding,
    geometry.dilation,
  ):
    before = d * (k - 1) - lo
    config.append((before, n - before - ((m - 1) * s + 1) + d * (k - 1), s - 1))
  spread = lax.pad(dy, jnp.zeros((), dy.dtype), (*config, (0, 0, 0)))
  flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
  return _direct(spread, flipped, Geometry(dilation=geometry.dilation))


def _window(x, i, j, size, geometry):
  """The strided slice of a padded image that meets kernel tap (i, j)."""
  (sh, sw), (dh, dw) = geometry.strides, geometry.dilation
  bare = geometry._replace(padding=((0, 0), (0, 0)))
  h, w = output_size(x.shape[1:3], size, bare)
  i, j = i * dh, j * dw
  return x[:, i : i + sh * (h - 1) + 1 : sh, j : j + sw * (w - 1) + 1 : sw]


def _require(condition, lowering, expected, geometry):
  if not condition:
    raise ValueError(
      f'Expected {expected} for lowering={lowering!r}; got {geometry}; '
      "use lowering='auto'"
    )


def _blocks(x, kernel, geometry, width=None):
  """Patches that yield `width` neighbouring outputs of a row at once."""
  _require(
    geometry.groups == 1 and geometry.dilation == (1, 1),
    'blocks',
    'one group and no dilation',
    geometry,
  )
  kh, kw, channels, features = kernel.shape
  h, w = output_size(x.shape[1:3], (kh, kw), geometry)
  width = width or _block_width(w, features)
  (sh, sw), count = geometry.strides, -(-w // width)
  span = (width - 1) * sw + kw
  extra = ((count * width - 1) * sw + kw) - x.shape[2] - sum(geometry.padding[1])
  (top, bottom), (left, right) = geometry.padding
  x = jnp.pad(
    x, ((0, 0), (top, bottom), (left, right + max(extra, 0)), (0, 0))
  )
  columns = [
    x[:, :, q * width * sw : q * width * sw + span].reshape(
      *x.shape[:2], span * channels
    )
    for q in range(count)
  ]
  x = jnp.stack(columns, axis=2)  # [B, H, count, span * C]
  rows = [x[:, i : i + sh * (h - 1) + 1 : sh] for i in range(kh)]
  wide = jnp.stack(
    [
      jnp.pad(
        kernel, ((0, 0), (q * sw, span - kw - q * sw), (0, 0), (0, 0))
      )
      for q in range(width)
    ],
    axis=3,
  ).reshape(kh * span * channels, width * features)
  y = jnp.concatenate(rows, axis=-1) @ wide
  y = y.reshape(*y.shape[:2], count * width, features)
  return y[:, :, :w]


def _block_width(outputs, features):
  """The block of at least 64 output columns that wastes least of a row."""
  wanted = min(outputs, max(1, -(-64 // features)))
  return min(
    range(wanted, min(outputs, 2 * wanted) + 1),
    key=lambda m: (-(-outputs // m) * m, m),
  )


# Points 0, 1, -1, 2, -2 and infinity.
_BT = (
  (4, 0, -5, 0, 1, 0),
  (0, -4, -4, 1, 1, 0),
  (0, 4, -4, -1, 1, 0),
  (0, -2, -1, 2, 1, 0),
  (0, 2, -1, -2, 1, 0),
  (0, 4, 0, -5, 0, 1),
)
_G = (
  (1 / 4, 0, 0),
  (-1 / 6, -1 / 6, -1 / 6),
  (-1 / 6, 1 / 6, -1 / 6),
  (1 / 24, 1 / 12, 1 / 6),
  (1 / 24, -1 / 12, 1 / 6),
  (0, 0, 1),
)
_AT = (
  (1, 1, 1, 1, 1, 0),
  (0, 1, -1, 2, -2, 0),
  (0, 1, 1, 4, 4, 0),
  (0, 1, -1, 8, -8, 1),
)


def _combine(matrix, parts):
  """Linear combinations of equally shaped arrays, a row of `matrix` each."""
  return [
    functools.reduce(
      jnp.add, [p if m == 1 else m * p for m, p in zip(row, parts) if m]
    )
    for row in matrix
  ]


def _winograd_product(x, kernel, padding):
  """The forward pass of F(4x4, 3x3)."""
  b, h, w, channels = x.shape
  features = kernel.shape[-1]
  (top, bottom), (left, right) = padding
  h, w = h + top + bottom - 2, w + left + right - 2
  th, tw = -(-h // 4), -(-w // 4)
  x = jnp.pad(
    x,
    (
      (0, 0),
      (top, bottom + 4 * th - h),
      (left, right + 4 * tw - w),
      (0, 0),
    ),
  )
  rows = _combine(
    _BT, [x[:, i : i + 4 * (th - 1) + 1 : 4] for i in range(6)]
  )
  tiles = [
    _combine(_BT, [r[:, :, j : j + 4 * (tw - 1) + 1 : 4] for j in range(6)])
    for r in rows
  ]
  taps = _combine(_G, [kernel[i] for i in range(3)])
  taps = [_combine(_G, [t[j] for j in range(3)]) for t in taps]
  product = [
    [v @ u for v, u in zip(vs, us)] for vs, us in zip(tiles, taps)
  ]
  half = [_combine(_AT, ms) for ms in product]  # 6 x 4
  y = [
    _combine(_AT, [half[a][j] for a in range(6)]) for j in range(4)
  ]  # [j][i]
  y = jnp.stack([jnp.stack(col, axis=2) for col in y], axis=4)
  return y.reshape(b, 4 * th, 4 * tw, features)[:, :h, :w]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _winograd(x, kernel, geometry):
  return _winograd_product(x, kernel, geometry.padding)


def _winograd_forward(x, kernel, geometry):
  return _winograd(x, kernel, geometry), (x, kernel)


def _winograd_backward(geometry, residuals, dy):
  x, kernel = residuals
  flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
  (t, b), (l, r) = geometry.padding
  dx = _winograd(dy, flipped, Geometry(padding=((2 - t, 2 - b), (2 - l, 2 - r))))
  rows = patches(x, kernel.shape[:2], geometry)
  dkernel = jnp.einsum('bhwd,bhwp->dp', rows, dy).reshape(kernel.shape)
  return dx, dkernel


_winograd.defvjp(_winograd_forward, _winograd_backward)


LOWERINGS = {
  'lax': _lax,
  'direct': _direct,
  'patches': _patches,
  'shifts': _shifts,
  'blocks': _blocks,
  'winograd': _winograd,
}
