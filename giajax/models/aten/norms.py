"""Normalisations, by the definitions of `models.parts.norms`."""

from collections.abc import Sequence
import math
from typing import Any

import jax
import jax.numpy as jnp

from giajax import types
from giajax.models.aten import base
from giajax.models.aten.parts import values

Optional = values.Value | None


def batch_norm(
  run: base.Pass,
  x: values.Value,
  weight: Optional,
  bias: Optional,
  mean: Optional,
  var: Optional,
  train: bool,
  momentum: float,
  epsilon: float,
) -> tuple[values.Value, ...]:
  """Returns [B, C, ...] normalised, and the statistics before and after.

  A layer of whose parameters none is trained keeps its running statistics.

  Returns:
    The output, the mean and the inverse deviation that it was normalised by,
    and the running mean and variance after the pass, if there are any.
  """
  axes = [0, *range(2, x.ndim), 1]
  images = x.laid(axes)
  path = _path(weight, bias, mean)
  if train and not (mean is not None and path in run.context.frozen):
    used, after = _batch_statistics(images, mean, var, momentum)
  else:
    assert mean is not None and var is not None
    used = after = (mean.logical(), var.logical())
  inverse = jax.lax.rsqrt(used[1] + epsilon)
  y = _affine(run, (weight, bias), (images - used[0]) * inverse, images, path)
  return (values.laid_out(y, axes), *map(values.of, (used[0], inverse, *after)))


def _batch_statistics(images, mean, var, momentum):
  """Returns mean and variance of a batch, and the running ones after it."""
  axes = tuple(range(images.ndim - 1))
  count = math.prod(images.shape[:-1])
  own = images.mean(axes)
  spread = jnp.square(images - own).mean(axes)
  if mean is None:
    return (own, spread), ()
  unbiased = spread * (count / max(count - 1, 1))
  after = (
    (1 - momentum) * mean.logical() + momentum * own,
    (1 - momentum) * var.logical() + momentum * unbiased,
  )
  return (own, spread), after


def _path(*operands) -> str:
  names = [v.name for v in operands if v is not None and v.name]
  return names[0].rpartition('.')[0] if names else ''


def _affine(run, operands, normal, x, path=''):
  """Returns what is normalised, scaled and shifted along its last axis."""
  weight, bias = operands
  y = normal
  if weight is not None:
    y = y * weight.logical()
  if bias is not None:
    y = y + bias.logical()
  if weight is None and bias is None and path:
    return run.context.record(base.Place(path), x, y)
  return run.site('scale', operands, x, y, normal=normal)


def inference_batch_norm(
  run: base.Pass,
  x: values.Value,
  weight: Optional,
  bias: Optional,
  mean: values.Value,
  var: values.Value,
  momentum: float,
  epsilon: float,
) -> tuple[values.Value, ...]:
  """Returns `batch_norm` by the running statistics."""
  return batch_norm(run, x, weight, bias, mean, var, False, momentum, epsilon)


def batch_norm_alone(
  run: base.Pass,
  x: values.Value,
  weight: Optional,
  bias: Optional,
  train: bool,
  momentum: float,
  epsilon: float,
) -> tuple[values.Value, ...]:
  """Returns `batch_norm` without running statistics."""
  return batch_norm(run, x, weight, bias, None, None, train, momentum, epsilon)


def layer_norm(
  run: base.Pass,
  x: values.Value,
  shape: Sequence[int],
  weight: Optional,
  bias: Optional,
  epsilon: float,
) -> tuple[values.Value, ...]:
  """Returns x normalised over its last axes, the mean and the inverse scale."""
  images = x.logical()
  axes = tuple(range(-len(shape), 0))
  normal, mean, inverse = _standardised(images, axes, epsilon)
  y = _affine(run, (weight, bias), normal, images)
  return values.of(y), values.of(mean), values.of(inverse)


def rms_norm(
  run: base.Pass,
  x: values.Value,
  shape: Sequence[int],
  weight: Optional = None,
  epsilon: float | None = None,
) -> values.Value:
  """Returns x divided by the root of its mean square over its last axes."""
  images = x.logical()
  least = float(jnp.finfo(images.dtype).eps) if epsilon is None else epsilon
  axes = tuple(range(-len(shape), 0))
  square = jnp.square(images).mean(axes, keepdims=True)
  normal = images * jax.lax.rsqrt(square + least)
  return values.of(_affine(run, (weight, None), normal, images))


def group_norm(
  run: base.Pass,
  x: values.Value,
  weight: Optional,
  bias: Optional,
  batch: int,
  channels: int,
  positions: int,
  groups: int,
  epsilon: float,
) -> tuple[values.Value, ...]:
  """Returns [B, C, ...] normalised by groups of neighbouring channels."""
  axes = [0, *range(2, x.ndim), 1]
  images = x.laid(axes)
  grouped = images.reshape(batch, positions, groups, channels // groups)
  normal, mean, inverse = _standardised(grouped, (1, 3), epsilon)
  normal = normal.reshape(images.shape)
  y = _affine(run, (weight, bias), normal, images)
  statistics = (part.reshape(batch, groups) for part in (mean, inverse))
  return (values.laid_out(y, axes), *map(values.of, statistics))


def _standardised(
  x: types.Array, axes: Any, epsilon: float
) -> tuple[types.Array, types.Array, types.Array]:
  mean = x.mean(axes, keepdims=True)
  var = jnp.square(x - mean).mean(axes, keepdims=True)
  inverse = jax.lax.rsqrt(var + epsilon)
  return (x - mean) * inverse, mean, inverse
