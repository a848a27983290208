"""Convolutions of one, two and three axes, and their transposes."""

from collections.abc import Sequence
import string

import jax
import numpy as np

from giajax import types
from giajax.models.aten import base
from giajax.models.aten.parts import values
from giajax.ops import convolution as convolutions
from giajax.ops import geometries


def convolution(
  run: base.Pass,
  x: values.Value,
  weight: values.Value,
  bias: values.Value | None,
  strides: Sequence[int],
  padding: Sequence[int],
  dilation: Sequence[int],
  transposed: bool,
  extra: Sequence[int],
  groups: int,
) -> values.Value:
  """Maps [B, C, ...] to [B, P, ...] by a weight [P, C / groups, ...].

  The weight of a transposed convolution is [C, P / groups, ...], and `extra` is
  the number of pixels that it adds at the end of each axis.
  """
  rank = x.ndim - 2
  if rank > 2 or x.ndim != weight.ndim:
    return _general(
      x, weight, bias, strides, padding, dilation, transposed, extra, groups
    )
  if rank == 1:
    x, weight = (_with_row(part) for part in (x, weight))
    strides, dilation = ([1, *part] for part in (strides, dilation))
    padding, extra = ([0, *part] for part in (padding, extra))
  (sh, sw), (ph, pw), (dh, dw) = strides, padding, dilation
  geometry = geometries.Geometry(
    (sh, sw), ((ph, ph), (pw, pw)), groups, (dh, dw)
  )
  images = x.laid((0, 2, 3, 1))
  if transposed:
    y = _transposed(run, images, weight, geometry, extra)
  else:
    kernel = weight.laid((2, 3, 1, 0))
    y = convolutions.convolve(images, kernel, geometry, run.context.lowering)
  if bias is not None:
    y = y + bias.logical()
  if not transposed:
    y = run.site('conv', (weight, bias), images, y, geometry)
  return values.laid_out(y[:, 0], (0, 2, 1)) if rank == 1 else _images(y)


def _images(y: types.Array) -> values.Value:
  return values.laid_out(y, (0, 2, 3, 1))


def _with_row(x: values.Value) -> values.Value:
  """Returns [B, C, L] as an image of one row."""
  order = (x.order[0], x.order[1], x.ndim, x.order[2])
  return values.Value(x.array[..., None], order)


def _transposed(run, x, weight, geometry, extra):
  """The transpose of a convolution, for a fixed kernel [kh, kw, P, C]."""
  kernel = weight.laid((2, 3, 1, 0))
  sizes = [
    (n - 1) * s - 2 * p + d * (k - 1) + more + 1
    for n, s, (p, _), d, k, more in zip(
      x.shape[1:3],
      geometry.strides,
      geometry.padding,
      geometry.dilation,
      kernel.shape,
      extra,
    )
  ]
  features = kernel.shape[2] * geometry.groups
  faces = convolutions.faces(
    (len(x), *sizes, features), kernel.shape, geometry, run.context.lowering
  )
  return faces.to_input(x, kernel)


def _general(
  x, weight, bias, strides, padding, dilation, transposed, extra, groups
) -> values.Value:
  """Any number of axes, by XLA's convolution."""
  del extra
  if transposed:
    raise ValueError(
      'Expected transposed convolutions of one or two axes; got one of '
      f'{x.ndim - 2}; bring the network by from_callable'
    )
  axes = string.digits[: x.ndim - 2]
  y = jax.lax.conv_general_dilated(
    x.logical(),
    weight.logical(),
    strides,
    [(p, p) for p in padding],
    rhs_dilation=dilation,
    dimension_numbers=(f'NC{axes}', f'OI{axes}', f'NC{axes}'),
    feature_group_count=groups,
  )
  if bias is not None:
    y = y + bias.logical().reshape(-1, *np.ones(x.ndim - 2, int))
  return values.of(y)
