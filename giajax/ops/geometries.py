"""Geometry, shapes and faces of a convolution, and what lowerings share."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from giajax import types


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

  x: tuple[int, ...]  # B, H, W, C
  kernel: tuple[int, ...]  # kh, kw, C / groups, P
  geometry: Geometry

  @property
  def output(self) -> tuple[int, ...]:
    """B, H', W', P."""
    size = output_size(self.x[1:3], self.kernel[:2], self.geometry)
    return (self.x[0], *size, self.kernel[3])


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


def windows(
  x: types.Array, size: Sequence[int], geometry: Geometry
) -> list[types.Array]:
  """Returns the slices of an image that meet a kernel's taps.

  Args:
    x: [B, H, W, C].
    size: (kh, kw).
    geometry: strides, padding and dilation.

  Returns:
    kh * kw arrays [B, H', W', C], row by row of the kernel.
  """
  h, w = output_size(x.shape[1:3], size, geometry)
  (sh, sw), (dh, dw) = geometry.strides, geometry.dilation
  rows, columns = sh * (h - 1) + 1, sw * (w - 1) + 1
  x = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))
  return [
    x[:, i : i + rows : sh, j : j + columns : sw]
    for i in range(0, dh * size[0], dh)
    for j in range(0, dw * size[1], dw)
  ]


def transposed_padding(shapes: Shapes) -> list[tuple[int, int]]:
  """Returns (before, after) of an output in both directions.

  The transpose of a convolution for a fixed kernel is a convolution of stride 1
  with the flipped kernel, over the output spread by the strides and padded by
  this.
  """
  geometry, padding = shapes.geometry, []
  for n, m, k, s, (lo, _), d in zip(
    shapes.x[1:3],
    shapes.output[1:3],
    shapes.kernel[:2],
    geometry.strides,
    geometry.padding,
    geometry.dilation,
  ):
    before, reach = d * (k - 1) - lo, (m - 1) * s + 1
    padding.append((before, n - before - reach + d * (k - 1)))
  return padding


def by_transposition(output: Callable[..., Any], shapes: Shapes) -> Faces:
  """Returns the faces of a lowering whose transposes are left to JAX.

  Args:
    output: `(x, kernel) -> y`, linear in each, see `Faces`.
    shapes: the shapes of the convolution.
  """

  def to_input(y, kernel):
    at = jnp.zeros(shapes.x, y.dtype)
    return jax.linear_transpose(lambda x: output(x, kernel), at)(y)[0]

  def to_kernel(x, y):
    at = jnp.zeros(shapes.kernel, y.dtype)
    return jax.linear_transpose(lambda k: output(x, k), at)(y)[0]

  return Faces(output, to_input, to_kernel)


def simple(geometry: Geometry) -> bool:
  """Returns whether a geometry has stride 1, one group and no dilation."""
  return geometry == Geometry(padding=geometry.padding)


def require(
  condition: bool, lowering: str, expected: str, geometry: Geometry
) -> None:
  """Raises ValueError if a lowering cannot do a geometry."""
  if not condition:
    raise ValueError(
      f'Expected {expected} for lowering={lowering!r}; got {geometry}; '
      "use lowering='auto'"
    )
