"""Object detection: boxes, and the classes of what is in them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from giajax import keys
from giajax import registry
from giajax import types
from giajax.tasks import base
from giajax.tasks.parts import objects
from giajax.tasks.parts import task_aligned

_LEAST = 0.01  # of a side of a box that an attack optimises
# `(out, objects, image_shape) -> []` by the form of the network.
LOSSES: dict[str, Callable[..., types.Array]] = {'yolo': task_aligned.loss}


def detection(
  num_classes: int,
  image_shape: tuple[int, int, int],
  *,
  loss: str = 'yolo',
  slots: int = 8,
) -> base.Task:
  """The loss of an object detector, over all boxes of the batch.

  Targets are `objects.Objects`. The loss is no mean of those of its images,
  which share what it is divided by.

  Args:
    num_classes: the number of classes K, at least 1.
    image_shape: (H, W, C) of the images, whose sides 32 divides.
    loss: a name in `LOSSES`: 'yolo' is that of `parts.task_aligned`.
    slots: the number of objects that an attack assumes in each image if it is
      granted neither their classes nor their boxes.

  Raises:
    ValueError: no class, another side, or an unknown loss. `loss` and `check`
      raise it for targets that are no objects of so many images, and `loss` for
      a network of another form.
  """
  base.check_size(num_classes, 1)
  base.check_size(slots, 1)
  function = registry.lookup(LOSSES, loss, 'loss of a detection')

  def check(y: Any, count: int) -> None:
    objects.check(y, count, num_classes)

  def of_batch(out: Any, y: Any) -> types.Array:
    if not isinstance(out, dict) or {*out} != {'boxes', 'scores'}:
      raise ValueError(
        'Expected a network that returns boxes and scores for '
        f'task=detection; got {type(out).__name__}; use a detector'
      )
    check(y, len(out['scores']))
    return function(out, objects.of(y), image_shape)

  return base.Task(
    loss=of_batch,
    check=check,
    same=_same,
    harden=_hardened,
    additive=False,
    facts={
      'labels': _labels(num_classes, slots),
      'boxes': _boxes(slots),
    },
    join=lambda facts: objects.Objects(facts['boxes'], **facts['labels']),
  )


def _labels(num_classes: int, slots: int) -> base.Fact:
  """Returns the fact of what the objects are, and how many."""

  def of(y: Any) -> dict[str, Any]:
    y = objects.of(y)
    return {'classes': y.classes, 'valid': y.valid}

  def draw(key: types.Array, count: int, known: Mapping[str, Any]) -> Any:
    number = known['boxes'].shape[1] if 'boxes' in known else slots
    return keys.normal(key, (count, number, num_classes))

  def relax(free: types.Array) -> dict[str, Any]:
    valid = jnp.ones(free.shape[:2], bool)
    return {'classes': jax.nn.softmax(free), 'valid': valid}

  return base.Fact(of, draw, relax)


def _boxes(slots: int) -> base.Fact:
  """Returns the fact of where they are."""

  def draw(key: types.Array, count: int, known: Mapping[str, Any]) -> Any:
    labels = known.get('labels')
    number = slots if labels is None else labels['valid'].shape[1]
    return keys.normal(key, (count, number, 4))

  def relax(free: types.Array) -> types.Array:
    """Returns boxes inside of the image, from centres and sizes."""
    middle, size = jax.nn.sigmoid(free[..., :2]), jax.nn.sigmoid(free[..., 2:])
    size = jnp.maximum(size, _LEAST)
    middle = size / 2 + middle * (1 - size)
    return jnp.concatenate([middle - size / 2, middle + size / 2], axis=-1)

  return base.Fact(lambda y: objects.of(y).boxes, draw, relax)


def _hardened(y: Any) -> objects.Objects:
  y = objects.of(y)
  if y.classes.ndim == 2:
    return y
  return y._replace(classes=jnp.argmax(y.classes, -1).astype(jnp.int32))


def _same(y: Any, y_hat: Any) -> types.Array:
  """Returns how well each image's objects are claimed, [B].

  The mean, over its objects, of the largest IoU with a claimed box of the same
  class. Of an image without objects, whether none is claimed.
  """
  return jax.vmap(_found)(objects.of(y), objects.of(y_hat))


def _found(own: objects.Objects, claimed: objects.Objects) -> types.Array:
  pairs = _iou(own.boxes[:, None], claimed.boxes[None])
  alike = own.classes[:, None] == claimed.classes[None]
  pairs = jnp.where(alike & claimed.valid[None], pairs, 0.0)
  total = own.valid.sum()
  share = jnp.where(own.valid, pairs.max(1), 0.0).sum() / jnp.maximum(total, 1)
  return jnp.where(total > 0, share, 1.0 - claimed.valid.any())


def _iou(a: types.Array, b: types.Array) -> types.Array:
  """Returns the IoU of boxes [..., 4] of corners, [...]; 0 without area."""
  low = jnp.maximum(a[..., :2], b[..., :2])
  high = jnp.minimum(a[..., 2:], b[..., 2:])
  overlap = jnp.prod(jnp.maximum(high - low, 0.0), axis=-1)
  area, other = (jnp.prod(box[..., 2:] - box[..., :2], -1) for box in (a, b))
  union = area + other - overlap
  return jnp.where(union > 0, overlap / jnp.where(union > 0, union, 1.0), 0.0)
