"""Object detection: boxes, and the classes of what is in them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from giajax import keys
from giajax import registry
from giajax import types
from giajax.tasks import base
from giajax.tasks.parts import average_precision
from giajax.tasks.parts import boxes as geometry
from giajax.tasks.parts import detections
from giajax.tasks.parts import objects
from giajax.tasks.parts import set_matching
from giajax.tasks.parts import task_aligned

_LEAST = 0.01  # of a side of a box that an attack optimises
_SURE = 0.25  # the least score of an object that a detector finds
_FOUND = 100  # boxes of a detector that are looked at
_RATED = 600  # classes of boxes that it is rated by, repetitions included


class Form(NamedTuple):
  """What a form of detectors is trained with.

  Attributes:
    loss: `(out, objects, image_shape) -> []`.
    predict: `(out, image_shape) -> Objects`, what the detector finds.
    detect: `(out, image_shape) -> Detections`, all that it is rated by.
    match: `(out, objects) -> matching`, where the loss also takes `Matched`,
      objects with the predictions that answer for them; None if it does not.
  """

  loss: Callable[..., types.Array]
  predict: Callable[..., objects.Objects]
  detect: Callable[..., detections.Detections]
  match: Callable[..., types.Array] | None = None


def _of_points(out: Any, image_shape: tuple[int, int, int]) -> objects.Objects:
  found = detections.suppressed(detections.decoded(out, image_shape, _FOUND))
  return _inside(found.boxes, found.classes, found.scores)


def _all_of_points(
  out: Any, image_shape: tuple[int, int, int]
) -> detections.Detections:
  found = detections.decoded(out, image_shape, _RATED, every_class=True)
  return detections.suppressed(found)


def _of_queries(out: Any, image_shape: tuple[int, int, int]) -> objects.Objects:
  return _inside(*_all_of_queries(out, image_shape))


def _all_of_queries(
  out: Any, image_shape: tuple[int, int, int]
) -> detections.Detections:
  del image_shape
  scores = jax.nn.softmax(out['scores'][:, -1])[..., :-1]  # but for nothing
  return detections.Detections(
    geometry.to_corners(out['boxes'][:, -1]),
    scores.argmax(-1).astype(jnp.int32),
    scores.max(-1),
  )


def _inside(
  boxes: types.Array, classes: types.Array, scores: types.Array
) -> objects.Objects:
  """Returns what is found inside of the image, and surely enough."""
  boxes = jnp.clip(boxes, 0, 1)
  sure = (scores > _SURE) & (geometry.area(boxes) > 0)
  return objects.Objects(boxes, classes, sure)


def _of_pairs(
  out: Any,
  y: objects.Objects | set_matching.Matched,
  image_shape: tuple[int, int, int],
) -> types.Array:
  del image_shape
  if isinstance(y, set_matching.Matched):
    return set_matching.loss(out, y.objects, matching=y.matching)
  return set_matching.loss(out, y)


FORMS = {
  'yolo': Form(task_aligned.loss, _of_points, _all_of_points),
  'detr': Form(_of_pairs, _of_queries, _all_of_queries, set_matching.match),
}
# Whether an attack is told which predictions answer for which objects.
MATCHINGS = {'each step': False, 'oracle': True}


def detection(
  num_classes: int,
  image_shape: tuple[int, int, int],
  *,
  loss: str = 'yolo',
  slots: int = 8,
  matching: str = 'each step',
) -> base.Task:
  """The loss of an object detector, over all boxes of the batch.

  Targets are `objects.Objects`. The loss is no mean of those of its images,
  which share what it is divided by.

  Which predictions answer for which objects depends on what the network
  returns. An attack finds it anew for each of its candidates, and often finds
  another answer than the client: according to LeakPro's study of DETR, 60 %
  of the matches of 20 objects change on the way from noise to the image. What
  that costs the attack is shown by `matching='oracle'`: the predictions that
  the client matched are one more fact, the grant 'matching', and the candidate
  keeps them. The client's own update is the same.

  Args:
    num_classes: the number of classes K, at least 1.
    image_shape: (H, W, C) of the images.
    loss: a name in `FORMS`: 'yolo' is that of `parts.task_aligned`, 'detr' that
      of `parts.set_matching`.
    slots: the number of objects that an attack assumes in each image if it is
      granted nothing of them.
    matching: 'each step' or 'oracle', see above; the latter for 'detr' only.

  Raises:
    ValueError: no class, no slot, an unknown loss or matching, or an oracle of
      another loss. `loss` and `check` raise it for targets that are no objects
      of so many images, and `loss` for a network of another form.
  """
  base.check_size(num_classes, 1)
  base.check_size(slots, 1, 'slots')
  form = registry.lookup(FORMS, loss, 'loss of a detection')
  told = registry.lookup(MATCHINGS, matching, 'matching')
  if told and form.match is None:
    able = [name for name, one in FORMS.items() if one.match]
    raise ValueError(
      f'Expected loss={" or ".join(map(repr, able))} for matching='
      f'{matching!r}; got loss={loss!r}; leave matching out'
    )

  def is_matched(y: Any) -> bool:
    return told and isinstance(y, set_matching.Matched)

  def check(y: Any, count: int) -> None:
    objects.check(y.objects if is_matched(y) else y, count, num_classes)

  def of_batch(out: Any, y: Any) -> types.Array:
    if not isinstance(out, dict) or {*out} != {'boxes', 'scores'}:
      raise ValueError(
        'Expected a network that returns boxes and scores for '
        f'task=detection; got {type(out).__name__}; use a detector'
      )
    check(y, len(out['scores']))
    return form.loss(out, y if is_matched(y) else objects.of(y), image_shape)

  facts = {'labels': _labels(num_classes, slots), 'boxes': _boxes(slots)}
  if told:
    facts['matching'] = base.Fact(
      None, of_pass=lambda out, y: form.match(out, objects.of(y))
    )
  return base.Task(
    loss=of_batch,
    check=check,
    same=_same,
    predict=lambda out: form.predict(out, image_shape),
    harden=_hardened,
    additive=False,
    facts=facts,
    join=_joined,
    worth=base.Worth(
      lambda out: form.detect(out, image_shape),
      average_precision.of_coco,
      ('AP50', 'AP'),
    ),
  )


def _joined(
  facts: Mapping[str, Any],
) -> objects.Objects | set_matching.Matched:
  y = objects.Objects(facts['boxes'], **facts['labels'])
  if 'matching' in facts:
    return set_matching.Matched(y, facts['matching'])
  return y


def _places(known: Mapping[str, Any], slots: int) -> int:
  """Returns G, by what is known, or else as many slots."""
  if 'boxes' in known:
    return known['boxes'].shape[1]
  if 'labels' in known:
    return known['labels']['valid'].shape[1]
  return known['matching'].shape[2] if 'matching' in known else slots


def _labels(num_classes: int, slots: int) -> base.Fact:
  """Returns the fact of what the objects are, and how many."""

  def of(y: Any) -> dict[str, Any]:
    y = objects.of(y)
    return {'classes': y.classes, 'valid': y.valid}

  def draw(key: types.Array, count: int, known: Mapping[str, Any]) -> Any:
    return keys.normal(key, (count, _places(known, slots), num_classes))

  def relax(free: types.Array) -> dict[str, Any]:
    valid = jnp.ones(free.shape[:2], bool)
    return {'classes': jax.nn.softmax(free), 'valid': valid}

  return base.Fact(of, draw, relax)


def _boxes(slots: int) -> base.Fact:
  """Returns the fact of where they are."""

  def draw(key: types.Array, count: int, known: Mapping[str, Any]) -> Any:
    return keys.normal(key, (count, _places(known, slots), 4))

  def relax(free: types.Array) -> types.Array:
    """Returns boxes inside of the image, from centres and sizes."""
    middle, size = jax.nn.sigmoid(free[..., :2]), jax.nn.sigmoid(free[..., 2:])
    size = jnp.maximum(size, _LEAST)
    middle = size / 2 + middle * (1 - size)
    return jnp.concatenate([middle - size / 2, middle + size / 2], axis=-1)

  return base.Fact(lambda y: objects.of(y).boxes, draw, relax)


def _hardened(y: Any) -> objects.Objects:
  y = objects.of(y.objects if isinstance(y, set_matching.Matched) else y)
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
  pairs = geometry.iou(own.boxes[:, None], claimed.boxes[None])
  alike = own.classes[:, None] == claimed.classes[None]
  pairs = jnp.where(alike & claimed.valid[None], pairs, 0.0)
  total = own.valid.sum()
  share = jnp.where(own.valid, pairs.max(1), 0.0).sum() / jnp.maximum(total, 1)
  return jnp.where(total > 0, share, 1.0 - claimed.valid.any())
