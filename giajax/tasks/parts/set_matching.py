"""The loss of a network that predicts a set of objects, matched one to one.

Of each image and each decoder layer, the predictions q are assigned to the
objects g such that the total of

  cost(q, g) = 5 |b_q - b_g|_1 - 2 GIoU(b_q, b_g) - sum_k y_gk p_q(k)     (1)

is least, where b are boxes as centre, width and height, y_g is 1 for the class
of g and else 0, and p = softmax(scores) over K classes and, as the last,
nothing. The loss is the sum over the layers of

  sum_q w_q -sum_k y_qk log p_q(k) / sum_q w_q                            (2)
    + sum_(q, g) (5 |b_q - b_g|_1 + 2 (1 - GIoU(b_q, b_g))) / N           (3)

over all predictions q of the batch and all matched pairs (q, g) of it, where
y_q is that of the object of q. A prediction without an object has the class
nothing and the weight w = 0.1, any other w = 1; N is the number of objects in
the batch, at least 1. So the loss is not a mean over images. The assignment is
constant under differentiation, also in that of an attacker; targets are not.

Carion et al., End-to-End Object Detection with Transformers, ECCV 2020, arXiv
2005.12872. Deviations from the authors' code: boxes without an area overlap
nothing instead of making NaN, batches without objects have a loss, and y may
be any probabilities of the classes, as an attack optimises them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

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
_EXACT = jax.lax.Precision.HIGHEST


class Matched(NamedTuple):
  """Objects, and which predictions answer for them.

  Attributes:
    objects: those of B images.
    matching: [B, L, G] int32, the prediction of each object.
  """

  objects: records.Objects
  matching: Any


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
  p = jax.nn.softmax(out['scores'])[..., :-1]
  hot = records.hot(classes, p.shape[-1], p.dtype)
  p = jnp.einsum('blqk,bgk->blqg', p, hot, precision=_EXACT)
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
  valid = objects.valid[:, None]  # [B, 1, G]
  taken = (matching[..., None] == jnp.arange(count)) & valid[..., None]
  rest = jnp.where(taken.any(2), 0, _NOTHING)  # [B, L, Q]
  log_p = jax.nn.log_softmax(scores)
  own = jnp.where(valid, matching, 0)[..., None]
  own = jnp.take_along_axis(log_p[..., :-1], own, axis=2)  # [B, L, G, K]
  hot = records.hot(objects.classes, classes - 1, scores.dtype)
  own = jnp.where(valid, (own * hot[:, None]).sum(-1), 0)
  total = own.sum((0, 2)) + (rest * log_p[..., -1]).sum((0, 2))
  return -total / (valid.sum() + rest.sum((0, 2)))


def _check(out, objects):
  """Raises a ValueError for more objects than predictions."""
  predictions, count = out['boxes'].shape[2], objects.valid.shape[1]
  if count > predictions:
    raise ValueError(
      f'Expected at most {predictions} objects of an image, one for each '
      f'prediction; got places for {count}; raise queries or lower max_objects'
    )
