"""Objects: the boxes in an image, and the classes of what they hold."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import types
from giajax.tasks import base


class Objects(NamedTuple):
  """The objects of B images, in G slots each.

  Attributes:
    boxes: [B, G, 4] float32, (left, top, right, bottom) in [0, 1], relative to
      the width and the height of the network's input.
    classes: [B, G] int32, or [B, G, K] float32 probabilities.
    valid: [B, G] bool, the slots that hold an object.
  """

  boxes: Any
  classes: Any
  valid: Any


def of(y: Any) -> Objects:
  """Returns targets as Objects; a dict of arrays of these names is taken."""
  return Objects(**y) if isinstance(y, Mapping) else Objects(*y)


def hot(classes: types.Array, count: int, dtype: Any) -> types.Array:
  """Returns classes [..., G], or their probabilities, as [..., G, K].

  Args:
    classes: integers, of which one outside [0, K) has probability 0, or
      probabilities [..., G, K], which are returned as they are.
    count: K.
    dtype: the type of the probabilities of integers.
  """
  if jnp.issubdtype(classes.dtype, jnp.floating):
    return classes
  return jax.nn.one_hot(classes, count, dtype=dtype)


def check(y: Any, count: int, num_classes: int) -> None:
  """Refuses targets that are not the objects of `count` images.

  Values are checked where they are known. Slots without an object may hold
  anything finite.

  Args:
    y: the targets.
    count: B, the number of images.
    num_classes: the number of classes K.

  Raises:
    ValueError: arrays of another shape or type, boxes outside [0, 1] or without
      area, or classes outside [0, K).
  """
  names = {*Objects._fields}
  if not isinstance(y, Objects) and {*getattr(y, 'keys', tuple)()} != names:
    raise ValueError(
      'Expected objects with boxes, classes and valid as targets; got '
      f'{type(y).__name__}; use a data set with boxes'
    )
  y = of(y)
  _check_forms(y, count, num_classes)
  if not all(map(base.is_known, y)):
    return
  boxes, classes, valid = (np.asarray(leaf) for leaf in y)
  if not np.isfinite(boxes).all():
    raise ValueError('Expected finite boxes; got NaN or inf; correct them')
  own = boxes[valid]
  outside = ((own < 0) | (own > 1)).any(-1)
  if outside.any():
    raise ValueError(
      f'Expected boxes in [0, 1], relative to the image; got '
      f'{own[outside][0].tolist()} ({int(outside.sum())} of {len(own)} are '
      'outside); divide pixels by width and height, or clip'
    )
  flat = (own[:, 2:] <= own[:, :2]).any(-1)
  if flat.any():
    raise ValueError(
      'Expected boxes (left, top, right, bottom) of some width and height; got '
      f'{own[flat][0].tolist()} ({int(flat.sum())} of {len(own)} have none); '
      'leave them out'
    )
  if classes.ndim == 2:
    wrong = classes[valid & ((classes < 0) | (classes >= num_classes))]
    if wrong.size:
      raise ValueError(
        f'Expected classes in [0, {num_classes}); got {wrong[0]} ({wrong.size} '
        f'of {int(valid.sum())} are outside); use the label set of the network'
      )


def _check_forms(y: Objects, count: int, num_classes: int) -> None:
  boxes, classes, valid = (jnp.shape(leaf) for leaf in y)
  slots = boxes[1] if len(boxes) == 3 else 0
  hard = jnp.issubdtype(jnp.result_type(y.classes), jnp.integer)
  kinds = [jnp.result_type(leaf) for leaf in y]
  if (
    boxes != (count, slots, 4)
    or classes != ((count, slots) if hard else (count, slots, num_classes))
    or valid != (count, slots)
    or not slots
    or not jnp.issubdtype(kinds[0], jnp.floating)
    or kinds[2] != jnp.bool_
  ):
    raise ValueError(
      f'Expected objects of {count} images: boxes [{count}, G, 4] of floats, '
      f'classes [{count}, G] of integers and valid [{count}, G] of bools; got '
      f'{boxes}, {classes}, {valid} of {", ".join(map(str, kinds))}; correct '
      'them'
    )


def padded(
  boxes: np.ndarray, classes: np.ndarray, slots: int, where: str
) -> Objects:
  """Returns the objects of one image in so many slots, without axis B.

  Args:
    boxes: [n, 4] as in `Objects`.
    classes: [n].
    slots: G; more objects are an error, and are not cut.
    where: what the message calls the image.

  Raises:
    ValueError: more objects than slots.
  """
  count = len(boxes)
  if count > slots:
    raise ValueError(
      f'Expected at most max_objects={slots} objects in an image; got {count} '
      f'in {where}; raise max_objects, or choose images with fewer'
    )
  missing = slots - count
  return Objects(
    np.pad(
      np.asarray(boxes, np.float32).reshape(-1, 4), ((0, missing), (0, 0))
    ),
    np.pad(np.asarray(classes, np.int32), (0, missing)),
    np.arange(slots) < count,
  )
