"""Geometry of boxes: forms, and how far two of them overlap.

A box is four numbers, in one of two forms and any unit:

  corners  left, top, right, bottom
  centres  horizontal and vertical centre, width, height

All functions broadcast over the axes in front of the four numbers, and are
finite, with finite derivatives, for boxes without an area. For the overlap of
each of Q boxes with each of G, insert the axes: `iou(a[:, None], b[None])`.
"""

import jax.numpy as jnp

from giajax import types


def to_corners(boxes: types.Array) -> types.Array:
  """Maps centres [..., 4] to corners [..., 4]."""
  centre, half = boxes[..., :2], boxes[..., 2:] / 2
  return jnp.concatenate([centre - half, centre + half], axis=-1)


def to_centres(boxes: types.Array) -> types.Array:
  """Maps corners [..., 4] to centres [..., 4]."""
  low, high = boxes[..., :2], boxes[..., 2:]
  return jnp.concatenate([(low + high) / 2, high - low], axis=-1)


def area(boxes: types.Array) -> types.Array:
  """Returns the area of corners [..., 4], [...]; 0 if they are in disorder."""
  sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
  return sides[..., 0] * sides[..., 1]


def iou(a: types.Array, b: types.Array) -> types.Array:
  """Returns the intersection over the union, elementwise, in [0, 1].

  Args:
    a: corners [..., 4].
    b: corners that broadcast against them.

  Returns:
    [...], 0 where neither box has an area.
  """
  return _ratio(*_overlap(a, b))


def giou(a: types.Array, b: types.Array) -> types.Array:
  """Returns the generalized IoU, elementwise, in (-1, 1].

  It is the IoU less the share of the smallest box around both that neither of
  them covers; Rezatofighi et al., Generalized Intersection over Union, CVPR
  2019, arXiv 1902.09630.

  Args:
    a: corners [..., 4].
    b: corners that broadcast against them.

  Returns:
    [...], 0 where both boxes are one point, or lie on one line along an axis.
  """
  inner, union = _overlap(a, b)
  hull = area(
    jnp.concatenate(
      [
        jnp.minimum(a[..., :2], b[..., :2]),
        jnp.maximum(a[..., 2:], b[..., 2:]),
      ],
      axis=-1,
    )
  )
  return _ratio(inner, union) - _ratio(hull - union, hull)


def _overlap(a, b):
  """Returns the areas of intersection and union, [...] both."""
  low = jnp.maximum(a[..., :2], b[..., :2])
  high = jnp.minimum(a[..., 2:], b[..., 2:])
  inner = area(jnp.concatenate([low, high], axis=-1))
  return inner, area(a) + area(b) - inner


def _ratio(part, whole):
  """Returns part / whole, and 0 without a slope where the whole is 0."""
  some = whole > 0
  return jnp.where(some, part / jnp.where(some, whole, 1), 0)
