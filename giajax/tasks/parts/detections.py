"""From the output of a YOLO detector to boxes: decoding and suppression.

A point predicts one box, the mean distances around it, and a probability for
each class. Its likeliest class counts, or every class for itself, as in the
evaluation of detectors. Boxes of one class that
overlap by more than an IoU are taken for one object, the one of the highest
score (greedy non-maximum suppression).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from giajax import types
from giajax.tasks.parts import boxes as geometry
from giajax.tasks.parts import task_aligned

_SIDE = 4.0  # apart enough for boxes of two classes never to overlap


class Detections(NamedTuple):
  """What a detector finds in B images, N boxes each, the surest first.

  Attributes:
    boxes: [B, N, 4] (left, top, right, bottom), relative to the image and not
      clipped to it.
    classes: [B, N] int32.
    scores: [B, N] in [0, 1]; 0 for boxes that were suppressed.
  """

  boxes: types.Array
  classes: types.Array
  scores: types.Array


def decoded(
  out: Any,
  image_shape: tuple[int, int, int],
  count: int = 300,
  *,
  every_class: bool = False,
) -> Detections:
  """Returns the boxes of the highest scores; none is suppressed.

  Args:
    out: as for `task_aligned.loss`.
    image_shape: (H, W, C).
    count: N, the most boxes.
    every_class: whether each class of a point is a detection, and not only the
      likeliest.
  """
  place, stride = task_aligned.points(image_shape)
  height, width = image_shape[:2]
  boxes = task_aligned.boxes_of(out['boxes'], place, stride)
  boxes = boxes / jnp.asarray([width, height, width, height], boxes.dtype)
  p = jax.nn.sigmoid(out['scores'])
  labels = jnp.broadcast_to(jnp.arange(p.shape[-1], dtype=jnp.int32), p.shape)
  if not every_class:
    labels = p.argmax(-1, keepdims=True).astype(jnp.int32)
    p = p.max(-1, keepdims=True)
  flat = p.reshape(len(p), -1)
  scores, best = jax.lax.top_k(flat, min(count, flat.shape[1]))
  points = best // p.shape[-1]
  return Detections(
    jnp.take_along_axis(boxes, points[..., None], axis=1),
    jnp.take_along_axis(labels.reshape(flat.shape), best, axis=1),
    scores,
  )


def suppressed(found: Detections, iou: float = 0.7) -> Detections:
  """Returns the same with the scores of repeated boxes set to 0.

  Args:
    found: detections, the surest first.
    iou: the IoU above which two boxes of one class are one object.
  """
  # One after the other: the overlaps of all images would take gigabytes.
  kept = functools.partial(_kept, iou=iou)
  return found._replace(scores=jax.lax.map(lambda one: kept(*one), found))


def _kept(boxes, classes, scores, iou) -> types.Array:
  """Returns the scores of one image, 0 for boxes that are suppressed."""
  apart = boxes + _SIDE * classes[:, None]
  overlaps = geometry.iou(apart[:, None], apart[None]) > iou
  later = jnp.arange(len(boxes))[None] > jnp.arange(len(boxes))[:, None]

  def step(i, alive):
    return alive & ~(overlaps[i] & later[i] & alive[i])

  alive = jax.lax.fori_loop(0, len(boxes), step, jnp.ones(len(boxes), bool))
  return jnp.where(alive, scores, 0.0)
