"""The loss of a network that predicts a set of objects, matched one to one.

Of each image and each decoder layer, the predictions q are assigned to the
objects g such that the total of

  cost(q, g) = 5 |b_q - b_g|_1 - 2 GIoU(b_q, b_g) - p_q(c_g)              (1)

is least, where b are boxes as centre, width and height, and p = softmax(scores)
over K classes and, as the last, nothing. The loss is the sum over the layers of

  sum_q w_q -log p_q(c_q) / sum_q w_q                                     (2)
    + sum_(q, g) (5 |b_q - b_g|_1 + 2 (1 - GIoU(b_q, b_g))) / N           (3)

over all predictions q of the batch and all matched pairs (q, g) of it. A
prediction without an object has the class nothing and the weight w = 0.1, any
other w = 1; N is the number of objects in the batch, at least 1. So the loss is
not a mean over images. The assignment is constant under differentiation, also
in that of an attacker; targets are not.

Carion et al., End-to-End Object Detection with Transformers, ECCV 2020, arXiv
2005.12872. Deviations from the authors' code: boxes without an area overlap
nothing instead of making NaN, and batches without objects have a loss.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from optax import assignment

from giajax import types
from giajax.tasks.parts import boxes
from giajax.tasks.parts import objects as records

# Of the terms in (2) and (3); those of a cost have the same weights.
WEIGHTS = {'class': 1.0, 'l1': 5.0, 'giou': 2.0}
_NOTHING = 0.1  # the weight of predictions without an object
# What costs that are not finite count as: among NaN, the search has no end.
_WORST = 1e4


def loss(
  out: Mapping[str, types.Array],
  objects: records.Objects,
  *,
  matching: types.Array | None = None,
) -> types.Array:
  """Returns the loss of a batch, [].

  Args:
    out: 'boxes' [B, L, Q, 4] centres in [0, 1] and 'scores' [B, L, Q, K + 1]
      logits of L decoder layers; their last class is nothing.
    objects: the objects, at most Q of each image.
    matching: [B, L, G] int32, the prediction of each object, in place of the
      assignment (1): that of another step, or of an oracle. Entries of padding
      do not matter.

  Raises:
    ValueError: more objects than predictions, or a matching of another shape.
  """
  if matching is None:
    matching = match(out, objects)
  found = terms(out, objects, matching)
  return sum(
    (weight * found[name].sum() for name, weight in WEIGHTS.items()),
    start=jnp.zeros(()),
  )


def terms(
  out: Mapping[str, types.Array],
  objects: records.Objects,
  matching: types.Array,
) -> dict[str, types.Array]:
  """Returns the terms of the loss, [L] each, before their weights.

  Args:
    out: as in `loss`.
    objects: the objects.
    matching: [B, L, G] int32, the prediction of each object.

  Returns:
    'class', in nats, is (2); 'l1' and 'giou' make up (3).

  Raises:
    ValueError: more objects than predictions, or a matching of another shape.
  """
  _check(out, objects)
  wanted = (*out['boxes'].shape[:2], objects.valid.shape[1])
  if matching.shape != wanted:
    raise ValueError(
      f'Expected a prediction for each object, {list(wanted)}; got '
      f'matching.shape={matching.shape}; make it by match'
    )
  valid = objects.valid[:, None]
  own = jnp.where(valid, matching, 0)[..., None]
  predicted = jnp.take_along_axis(out['boxes'], own, axis=2)
  l1, overlap = _compare(predicted, objects.boxes[:, None])
  # A scalar for all images and layers: N of (3).
  count = jnp.maximum(objects.valid.sum(), 1)
  return {
    'class': _cross_entropy(out['scores'], objects, matching),
    'l1': jnp.where(valid, l1, 0).sum((0, 2)) / count,
    'giou': jnp.where(valid, 1 - overlap, 0).sum((0, 2)) / count,
  }


def match(
  out: Mapping[str, types.Array], objects: records.Objects
) -> types.Array:
  """Returns the prediction of each object, the assignment of least cost (1).

  It has no derivative. Padding gets predictions that no object has.

  Args:
    out: as in `loss`.
    objects: the objects, at most Q of each image.

  Returns:
    [B, L, G] int32 in [0, Q), distinct within an image and a layer.

  Raises:
    ValueError: more objects than predictions.
  """
  _check(out, objects)
  out, own, classes, valid = jax.lax.stop_gradient(
    (dict(out), objects.boxes, objects.classes, objects.valid)
  )
  # [B, L, Q, G] from here on.
  l1, overlap = _compare(out['boxes'][..., None, :], own[:, None, None])
  p = jax.nn.softmax(out['scores'])
  shape = (*p.shape[:3], classes.shape[1])
  index = jnp.broadcast_to(classes[:, None, None], shape)
  # Padding may have any class.
  p = jnp.take_along_axis(p, jnp.clip(index, 0, p.shape[-1] - 1), axis=-1)
  cost = WEIGHTS['l1'] * l1 - WEIGHTS['giou'] * overlap - WEIGHTS['class'] * p
  cost = jnp.where(jnp.isfinite(cost), cost, _WORST)
  cost = jnp.where(valid[:, None, None], cost, 0)
  return jax.vmap(jax.vmap(_assign))(cost)


def _compare(predicted, own):
  """Returns L1 distance and GIoU of centres and corners, [...] both."""
  l1 = jnp.abs(predicted - boxes.to_centres(own)).sum(-1)
  return l1, boxes.giou(boxes.to_corners(predicted), own)


def _assign(cost):
  """Returns the row [G] of each column of costs [Q, G] at the least cost."""
  rows, columns = assignment.hungarian_algorithm(cost)
  return rows[jnp.argsort(columns)].astype(jnp.int32)


def _cross_entropy(scores, objects, matching):
  """Returns the weighted mean (2) over all predictions of each layer, [L]."""
  *_, count, classes = scores.shape
  own = matching[..., None] == jnp.arange(count)
  own &= objects.valid[:, None, :, None]  # [B, L, G, Q]
  taken = own.any(2)
  label = jnp.where(own, objects.classes[:, None, :, None], 0).sum(2)
  label = jnp.where(taken, label, classes - 1)
  log_p = jax.nn.log_softmax(scores)
  log_p = jnp.take_along_axis(log_p, label[..., None], axis=-1)[..., 0]
  weight = jnp.where(taken, 1, _NOTHING)
  return -(weight * log_p).sum((0, 2)) / weight.sum((0, 2))


def _check(out, objects):
  """Raises a ValueError for more objects than predictions."""
  predictions, count = out['boxes'].shape[2], objects.valid.shape[1]
  if count > predictions:
    raise ValueError(
      f'Expected at most {predictions} objects of an image, one for each '
      f'prediction; got places for {count}; raise queries or lower max_objects'
    )
