"""The loss of detectors without anchor boxes: task-aligned, with DFL and CIoU.

For each image a fixed grid of anchor points predicts K class logits and, for
each side of a box, a distribution over R distances in strides. The loss of a
batch is

  L = (7.5 sum_P w (1 - CIoU) + 0.5 sum BCE(logit, t) + 1.5 sum_P w DFL) / N
                                                                           (1)

over positive points P, with targets t [B, A, K], w = sum_k t and N the sum of
all t, at least 1: it is no mean of losses of images, because they share N.

Which points are positive, and for which object, is decided by an alignment

  m = sigmoid(logit)^0.5 o^6        o = max(CIoU(object, prediction), 0)   (2)

over points inside an object's box: each object takes its ten largest, a point
that several take goes to the object of largest o, and t is m of an object,
scaled so that its largest is its largest o. No gradient flows through this.

Feng et al., TOOD: Task-Aligned One-Stage Object Detection, ICCV 2021, arXiv
2108.07755 (2); Li et al., Generalized Focal Loss, NeurIPS 2020, arXiv
2006.04388 (DFL); Zheng et al., Distance-IoU Loss, AAAI 2020, arXiv 1911.08287
(CIoU). The constants are those that YOLOv8 is trained with.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from giajax import types
from giajax.tasks.parts import objects as records

STRIDES = (8, 16, 32)  # of the three levels, in pixels
_BOX, _CLASS, _DISTANCE = 7.5, 0.5, 1.5
_TAKEN = 10  # points per object
_EPS = 1e-9
_IOU_EPS = 1e-7
_INSIDE = 1e-9  # pixels


class Assignment(NamedTuple):
  """Which anchor points answer for which objects, for B images.

  Attributes:
    strength: [B, A] the target of the class of that object, t.
    owner: [B, A] int32, the slot of the object of each point.
    positive: [B, A] bool, the points that have one.
  """

  strength: types.Array
  owner: types.Array
  positive: types.Array


class Terms(NamedTuple):
  """The three sums of (1), divided by N, and N."""

  box: types.Array
  classes: types.Array
  distance: types.Array
  total: types.Array


def points(image_shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
  """Returns the anchor points [A, 2], (x, y) in pixels, and strides [A].

  Rows come before columns, and the finest level first.

  Args:
    image_shape: (H, W, C).
  """
  grids, strides = [], []
  for stride in STRIDES:
    height, width = (side // stride for side in image_shape[:2])
    y, x = np.mgrid[:height, :width]
    grids.append(np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5)
    strides.append(np.full(height * width, stride))
  scale = np.concatenate(strides).astype(np.float32)
  return np.concatenate(grids).astype(np.float32) * scale[:, None], scale


def loss(
  out: Any, y: records.Objects, image_shape: tuple[int, int, int]
) -> types.Array:
  """Returns (1), [] nats.

  Args:
    out: 'boxes' [B, A, 4, R] logits of left, top, right and bottom, and
      'scores' [B, A, K] logits.
    y: the objects.
    image_shape: (H, W, C) of the images.

  Raises:
    ValueError: another number of points than images of that shape have.
  """
  found = terms(out, y, image_shape)
  return _BOX * found.box + _CLASS * found.classes + _DISTANCE * found.distance


def terms(
  out: Any, y: records.Objects, image_shape: tuple[int, int, int]
) -> Terms:
  """Returns the terms of (1) without their weights, see `loss`."""
  place, stride = points(image_shape)
  logits, scores = out['boxes'], out['scores']
  _check_points(logits, scores, place)
  height, width = image_shape[:2]
  truth = y.boxes * jnp.asarray([width, height, width, height], y.boxes.dtype)
  boxes = boxes_of(logits, place, stride)
  assigned = assign(scores, boxes, y._replace(boxes=truth), place)
  # Gathered outside of what is constant: boxes and classes may be optimised.
  hot = records.hot(y.classes, scores.shape[-1], scores.dtype)
  own, hot = (
    jnp.take_along_axis(leaf, assigned.owner[..., None], axis=1)
    for leaf in (truth, hot)
  )
  boxes, own = boxes / stride[:, None], own / stride[:, None]
  targets = assigned.strength[..., None] * hot
  total = jnp.maximum(targets.sum(), 1.0)
  weight = jnp.where(assigned.positive, targets.sum(-1), 0.0)
  each = optax.sigmoid_binary_cross_entropy(scores, targets)
  return Terms(
    jnp.sum(weight * (1 - complete_iou(boxes, own))) / total,
    jnp.sum(each) / total,
    jnp.sum(weight * _distance_loss(logits, place / stride[:, None], own))
    / total,
    total,
  )


def boxes_of(
  logits: types.Array, place: np.ndarray, stride: np.ndarray
) -> types.Array:
  """Returns the predicted boxes, [B, A, 4] corners in pixels.

  Args:
    logits: [B, A, 4, R] of the distances to the four sides, in strides.
    place: [A, 2] the anchor points in pixels.
    stride: [A] their strides.
  """
  bins = jnp.arange(logits.shape[-1], dtype=logits.dtype)
  distances = (jax.nn.softmax(logits) @ bins) * stride[:, None]
  low, high = place - distances[..., :2], place + distances[..., 2:]
  return jnp.concatenate([low, high], axis=-1)


def assign(
  scores: types.Array,
  boxes: types.Array,
  y: records.Objects,
  place: np.ndarray,
) -> Assignment:
  """Returns which points answer for which objects; constant in its arguments.

  Args:
    scores: [B, A, K] logits.
    boxes: [B, A, 4] predicted corners in pixels.
    y: the objects, with boxes in pixels.
    place: [A, 2] the anchor points in pixels.
  """
  constant = jax.lax.stop_gradient((jax.nn.sigmoid(scores), boxes, y))
  return jax.vmap(lambda p, b, own: _assign(p, b, own, place))(*constant)


def _assign(probabilities, boxes, y, place) -> Assignment:
  """The same for one image."""
  classes = probabilities.shape[-1]
  hot = records.hot(y.classes, classes, probabilities.dtype)
  sides = jnp.concatenate(
    [place[None] - y.boxes[:, None, :2], y.boxes[:, None, 2:] - place[None]], -1
  )
  inside = (sides.min(-1) > _INSIDE) & y.valid[:, None]  # [G, A]
  overlap = jnp.maximum(complete_iou(y.boxes[:, None], boxes[None]), 0.0)
  overlap = jnp.where(inside, overlap, 0.0)
  own = jnp.einsum('ak,gk->ga', probabilities, hot)
  aligned = jnp.where(inside, jnp.sqrt(own) * overlap**6, 0.0)  # (2)
  _, best = jax.lax.top_k(aligned, _TAKEN)
  taken = jax.nn.one_hot(best, len(place), dtype=bool).any(1) & inside
  # A point that several take goes to the one of largest overlap.
  strongest = jnp.argmax(overlap, axis=0)
  single = jax.nn.one_hot(strongest, len(overlap), axis=0, dtype=bool)
  taken = jnp.where(taken.sum(0) > 1, single, taken)
  aligned, overlap = (jnp.where(taken, v, 0.0) for v in (aligned, overlap))
  scale = overlap.max(1) / (aligned.max(1) + _EPS)
  strength = jnp.sum(aligned * scale[:, None], axis=0)
  return Assignment(strength, jnp.argmax(taken, axis=0), taken.any(0))


def complete_iou(a: types.Array, b: types.Array) -> types.Array:
  """Returns the complete IoU of boxes [..., 4] of corners, [...].

    CIoU = IoU - d^2 / c^2 - alpha v

  with d the distance of the centres, c the diagonal of the box around both, and
  v how different their proportions are. alpha is constant in differentiation.
  It may be below 0.

  Args:
    a: boxes (left, top, right, bottom), in any unit.
    b: as `a`, or broadcastable to it.
  """
  (w1, h1), (w2, h2) = (_sides(box) for box in (a, b))
  low = jnp.maximum(a[..., :2], b[..., :2])
  high = jnp.minimum(a[..., 2:], b[..., 2:])
  overlap = jnp.prod(jnp.maximum(high - low, 0.0), axis=-1)
  iou = overlap / (w1 * h1 + w2 * h2 - overlap + _IOU_EPS)
  hull = jnp.maximum(a[..., 2:], b[..., 2:]) - jnp.minimum(
    a[..., :2], b[..., :2]
  )
  diagonal = jnp.sum(jnp.square(hull), axis=-1) + _IOU_EPS
  apart = (b[..., :2] + b[..., 2:] - a[..., :2] - a[..., 2:]) / 2
  distance = jnp.sum(jnp.square(apart), axis=-1)
  v = 4 / np.pi**2 * jnp.square(jnp.arctan(w2 / h2) - jnp.arctan(w1 / h1))
  alpha = jax.lax.stop_gradient(v / (v - iou + 1 + _IOU_EPS))
  return iou - distance / diagonal - alpha * v


def _sides(box: types.Array) -> tuple[types.Array, types.Array]:
  return box[..., 2] - box[..., 0], box[..., 3] - box[..., 1] + _IOU_EPS


def _distance_loss(logits, place, truth) -> types.Array:
  """Returns the cross-entropy of the distances of the true sides, [B, A].

  A distance between two bins is both of them, in proportion.
  """
  y = jnp.concatenate([place - truth[..., :2], truth[..., 2:] - place], axis=-1)
  last = logits.shape[-1] - 1
  y = jnp.clip(y, 0, last - 0.01)
  low = jax.lax.stop_gradient(jnp.floor(y)).astype(jnp.int32)
  log_p = jax.nn.log_softmax(logits)

  def at(index):
    return jnp.take_along_axis(log_p, index[..., None], axis=-1)[..., 0]

  each = (low + 1 - y) * at(low) + (y - low) * at(low + 1)
  return -each.mean(-1)


def _check_points(logits, scores, place) -> None:
  if logits.shape[1:3] != (len(place), 4) or scores.shape[1] != len(place):
    raise ValueError(
      f'Expected a detector of {len(place)} anchor points, those of strides '
      f'{", ".join(map(str, STRIDES))}; got boxes {logits.shape} and scores '
      f'{scores.shape}; use one of YOLO form'
    )
