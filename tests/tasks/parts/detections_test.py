"""Tests of decoding, suppression and average precision: answers by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from giajax.tasks.parts import average_precision
from giajax.tasks.parts import detections
from giajax.tasks.parts import objects
from giajax.tasks.parts import task_aligned

SHAPE = (32, 64, 3)
PLACE, STRIDE = task_aligned.points(SHAPE)


def _found(boxes, classes, scores):
  return detections.Detections(
    jnp.asarray(boxes, jnp.float32)[None],
    jnp.asarray(classes, jnp.int32)[None],
    jnp.asarray(scores, jnp.float32)[None],
  )


def _objects(boxes, classes):
  one = objects.padded(np.array(boxes), np.array(classes), 4, 'it')
  return objects.Objects(*(leaf[None] for leaf in one))


def test_a_point_is_decoded():
  a, count = 5, len(PLACE)
  logits = np.full((1, count, 4, 16), -50.0)
  logits[0, :, :, 1] = 50.0  # one stride to every side
  logits[0, a, 0, 1], logits[0, a, 0, 2] = -50.0, 50.0  # two to the left
  scores = np.full((1, count, 3), -9.0)
  scores[0, a, 2] = 3.0
  found = detections.decoded({'boxes': logits, 'scores': scores}, SHAPE, 7)
  assert found.boxes.shape == (1, 7, 4)
  x, y = PLACE[a]
  side = STRIDE[a]
  expected = [(x - 2 * side) / 64, (y - side) / 32, (x + side) / 64]
  np.testing.assert_allclose(found.boxes[0, 0, :3], expected, rtol=1e-5)
  assert found.classes[0, 0] == 2
  np.testing.assert_allclose(
    found.scores[0, 0], 1 / (1 + np.exp(-3)), rtol=1e-5
  )


def test_every_class_of_a_point_may_be_a_detection():
  count = len(PLACE)
  scores = np.full((1, count, 3), -9.0)
  scores[0, 3] = [2.0, -9.0, 1.0]
  out = {'boxes': np.zeros((1, count, 4, 16)), 'scores': scores}
  one = detections.decoded(out, SHAPE, 3)
  assert (np.asarray(one.scores[0]) > 0.5).sum() == 1
  both = detections.decoded(out, SHAPE, 3, every_class=True)
  assert both.classes[0, :2].tolist() == [0, 2]
  np.testing.assert_array_equal(both.boxes[0, 0], both.boxes[0, 1])


def test_repeated_boxes_are_suppressed_once():
  boxes = [[0, 0, 1, 1], [0, 0, 1, 0.9], [0, 0, 1, 0.6], [0, 0, 1, 1]]
  found = detections.suppressed(
    _found(boxes, [0, 0, 0, 1], [0.9, 0.8, 0.7, 0.6])
  )
  # The second repeats the first; the third overlaps the second alone by .67.
  np.testing.assert_allclose(found.scores[0], [0.9, 0, 0.7, 0.6])


def test_average_precision_by_hand():
  y = _objects([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]], [0, 0])
  boxes = [[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.45], [0.5, 0.5, 1, 1]]
  found = _found(boxes, [0, 0, 0], [0.9, 0.8, 0.7])
  # Precisions 1, 1/2, 2/3 at recalls 1/2, 1/2, 1: 51 recalls of 1, 50 of 2/3.
  expected = (51 + 50 * 2 / 3) / 101
  ap = average_precision.average_precision
  assert ap(found, y) == pytest.approx(expected)
  assert average_precision.recalled(found, y) == 2
  assert average_precision.recalled(found, y, score=0.75) == 1
  other = _found(boxes, [1, 1, 1], [0.9, 0.8, 0.7])
  assert ap(other, y) == 0 and average_precision.recalled(other, y) == 0
  two = _objects([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]], [0, 1])
  assert ap(found, two) == pytest.approx(0.5)  # of one class all, of one none
  assert np.isnan(ap(found, _objects(np.zeros((0, 4)), [])))
  assert ap(found._replace(scores=0 * found.scores), y) == 0


def test_average_precision_at_several_thresholds():
  y = _objects([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]], [0, 0])
  # IoUs of .92 and .52: both are found at .5, one up to .9, none at .95.
  boxes = [[0, 0, 0.5, 0.46], [0.5, 0.5, 1, 0.76]]
  found = _found(boxes, [0, 0], [0.9, 0.8])
  half = 51 / 101
  expected = [1, *[half] * 8, 0]
  ious = np.arange(50, 100, 5) / 100
  values = average_precision.average_precisions(found, y, ious)
  np.testing.assert_allclose(values, expected)
  np.testing.assert_allclose(
    average_precision.of_coco(found, y), (1, np.mean(expected))
  )
