"""Average precision of detections, as COCO defines it, on the host.

Detections of all images are sorted by score, class by class; each takes the
object of its class and image of largest IoU, if that is at least a threshold
and no surer detection has it. The precision at a recall is the highest at that
recall or above, and AP its mean over the recalls 0, 0.01, ..., 1 and over the
classes that occur. Lin et al., Microsoft COCO, ECCV 2014, arXiv 1405.0312;
crowds, size ranges and the limit of 100 detections an image are left out.
"""

from collections.abc import Sequence

import jax
import numpy as np

from giajax.tasks.parts import detections
from giajax.tasks.parts import objects

_RECALLS = np.linspace(0, 1, 101)
_IOUS = tuple(np.arange(50, 100, 5) / 100)


def of_coco(
  found: detections.Detections, y: objects.Objects
) -> tuple[float, float]:
  """Returns AP50, at an IoU of .5, and AP, the mean over .5, .55, ..., .95.

  Args:
    found: as for `average_precision`, like `y`.
    y: the objects.
  """
  values = average_precisions(found, y, _IOUS)
  return float(values[0]), float(values.mean())


def average_precision(
  found: detections.Detections, y: objects.Objects, iou: float = 0.5
) -> float:
  """Returns the average precision over the classes that occur, in [0, 1].

  NaN if there is no object at all.

  Args:
    found: detections in B images; those of score 0 do not count.
    y: the objects of these images.
    iou: the threshold.
  """
  return float(average_precisions(found, y, (iou,))[0])


def average_precisions(
  found: detections.Detections, y: objects.Objects, ious: Sequence[float]
) -> np.ndarray:
  """Returns the average precision at each of T thresholds, [T].

  Args:
    found: as for `average_precision`, like `y`.
    y: the objects.
    ious: the thresholds.
  """
  found, y = jax.tree.map(np.asarray, (found, y))
  classes = np.unique(y.classes[y.valid])
  if not len(classes):
    return np.full(len(ious), np.nan)
  each = [_of_class(found, y, k, np.array(ious)) for k in classes]
  return np.mean(each, axis=0)


def recalled(
  found: detections.Detections,
  y: objects.Objects,
  *,
  score: float = 0.25,
  iou: float = 0.5,
) -> int:
  """Returns how many objects have a detection of their class upon them.

  Args:
    found: detections in B images.
    y: the objects of these images.
    score: the least score of a detection.
    iou: the IoU that it has to exceed.
  """
  count = 0
  for b, own in enumerate(np.asarray(y.valid)):
    sure = np.asarray(found.scores[b]) > score
    pairs = _ious(np.asarray(found.boxes[b])[sure], np.asarray(y.boxes[b])[own])
    alike = (
      np.asarray(found.classes[b])[sure][:, None]
      == (np.asarray(y.classes[b])[own][None])
    )
    count += int((alike & (pairs > iou)).any(0).sum())
  return count


def _of_class(found, y, label, ious) -> np.ndarray:
  """Returns the average precision of one class at each threshold, [T]."""
  scores, hits = [], []
  total = 0
  for b, valid in enumerate(y.valid):
    own = valid & (y.classes[b] == label)
    total += int(own.sum())
    sure = found.scores[b]
    order = np.flatnonzero((found.classes[b] == label) & (sure > 0))
    order = order[np.argsort(-sure[order], kind='stable')]
    hits.append(_hits(_ious(found.boxes[b][order], y.boxes[b][own]), ious))
    scores.append(sure[order])
  order = np.argsort(-np.concatenate(scores), kind='stable')
  hits = np.concatenate(hits)[order]
  return np.array([_area(own, total) for own in hits.T])


def _hits(pairs: np.ndarray, ious: np.ndarray) -> np.ndarray:
  """Returns which detections take an object at each threshold, [n, T].

  Args:
    pairs: the IoU of detections, the surest first, with objects, [n, m].
    ious: the thresholds, [T].
  """
  hits = np.zeros((len(pairs), len(ious)), bool)
  free = np.ones((len(ious), pairs.shape[1]), bool)
  near = pairs.max(axis=1, initial=-1) >= ious.min()
  for i in np.flatnonzero(near):
    usable = np.where(free, pairs[i], -1.0)
    hits[i] = usable.max(axis=1) >= ious
    taken = np.flatnonzero(hits[i])
    free[taken, usable[taken].argmax(axis=1)] = False
  return hits


def _area(hits: np.ndarray, total: int) -> float:
  """Returns the mean precision over recalls, of detections by their score."""
  if not len(hits):
    return 0.0
  right = np.cumsum(hits)
  recall, precision = right / total, right / np.arange(1, len(right) + 1)
  highest = np.maximum.accumulate(precision[::-1])[::-1]
  places = np.searchsorted(recall, _RECALLS)
  at = np.append(highest, 0.0)[np.minimum(places, len(highest))]
  return float(at.mean())


def _ious(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Returns the IoU of boxes [n, 4] and [m, 4], [n, m]."""
  low = np.maximum(a[:, None, :2], b[None, :, :2])
  high = np.minimum(a[:, None, 2:], b[None, :, 2:])
  inner = np.prod(np.maximum(high - low, 0), axis=-1)
  areas = [np.prod(np.maximum(v[:, 2:] - v[:, :2], 0), -1) for v in (a, b)]
  union = areas[0][:, None] + areas[1][None] - inner
  return inner / np.where(union > 0, union, 1)
