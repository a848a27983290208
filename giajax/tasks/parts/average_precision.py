"""Average precision of detections, as COCO defines it, on the host.

Detections of all images are sorted by score, class by class; each takes the
object of its class and image of largest IoU, if that is at least a threshold
and no surer detection has it. The precision at a recall is the highest at that
recall or above, and AP its mean over the recalls 0, 0.01, ..., 1 and over the
classes that occur. Lin et al., Microsoft COCO, ECCV 2014, arXiv 1405.0312;
crowds and size ranges are left out.
"""

import jax.numpy as jnp
import numpy as np

from giajax.tasks.parts import boxes as geometry
from giajax.tasks.parts import detections
from giajax.tasks.parts import objects

_RECALLS = np.linspace(0, 1, 101)


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
  y = objects.Objects(*map(np.asarray, y))
  values = [
    _of_class(found, y, int(k), iou) for k in np.unique(y.classes[y.valid])
  ]
  return float(np.mean(values)) if values else float('nan')


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


def _of_class(found, y, label, iou) -> float:
  """Returns the average precision of one class."""
  scores, hits = [], []
  total = 0
  for b, valid in enumerate(y.valid):
    own = valid & (y.classes[b] == label)
    total += int(own.sum())
    sure = np.asarray(found.scores[b])
    order = np.flatnonzero((np.asarray(found.classes[b]) == label) & (sure > 0))
    order = order[np.argsort(-sure[order], kind='stable')]
    pairs = _ious(np.asarray(found.boxes[b])[order], y.boxes[b][own])
    free = np.ones(pairs.shape[1], bool)
    for row in pairs:
      usable = np.where(free, row, -1.0)
      best = int(usable.argmax()) if len(usable) else -1
      hit = best >= 0 and usable[best] >= iou
      if hit:
        free[best] = False
      hits.append(hit)
    scores += sure[order].tolist()
  if not scores:
    return 0.0
  order = np.argsort(-np.array(scores), kind='stable')
  right = np.cumsum(np.array(hits)[order])
  recall, precision = right / total, right / np.arange(1, len(right) + 1)
  highest = np.maximum.accumulate(precision[::-1])[::-1]
  places = np.searchsorted(recall, _RECALLS)
  at = np.append(highest, 0.0)[np.minimum(places, len(highest))]
  return float(at.mean())


def _ious(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Returns the IoU of boxes [n, 4] and [m, 4], [n, m]."""
  return np.asarray(geometry.iou(jnp.asarray(a)[:, None], jnp.asarray(b)[None]))
