"""Tests of giajax.tasks.parts.boxes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.tasks.parts import boxes

# Two corners, the IoU and the GIoU by hand.
PAIRS = [
  ((0, 0, 2, 2), (0, 0, 2, 2), 1, 1),
  ((0, 0, 2, 2), (1, 0, 3, 2), 1 / 3, 1 / 3),  # the hull is the union
  ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7, 1 / 7 - 2 / 9),
  ((0, 0, 1, 1), (2, 0, 3, 1), 0, -1 / 3),  # apart
  ((0, 0, 4, 4), (1, 1, 2, 3), 1 / 8, 1 / 8),  # inside
  ((0, 0, 2, 2), (1, 1, 1, 1), 0, 0),  # a point inside
  ((0, 0, 1, 1), (2, 2, 2, 2), 0, -3 / 4),  # a point outside
  ((1, 1, 1, 1), (1, 1, 1, 1), 0, 0),  # the same point
  ((0, 1, 1, 1), (2, 1, 3, 1), 0, 0),  # on one line
]
# By torchvision 0.28.0's box_iou and generalized_box_iou, in float64, of the
# corners that `_drawn` gives for seeds 0 and 5.
TORCHVISION_IOU = [0.34612039, 0.0, 0.19069619, 0.0, 0.23094661, 0.07416423]
TORCHVISION_GIOU = [
  0.24887696,
  -0.33711537,
  0.07434216,
  -0.20593273,
  0.09271467,
  -0.25307501,
]


def _drawn(seed, count):
  low = np.random.default_rng(seed).uniform(0, 0.4, (count, 2))
  side = np.random.default_rng(seed + 1).uniform(0.1, 0.6, (count, 2))
  return np.concatenate([low, low + side], axis=1)


@pytest.mark.parametrize(('a', 'b', 'iou', 'giou'), PAIRS)
def test_overlaps_by_hand(a, b, iou, giou):
  a, b = (jnp.array(v, jnp.float32) for v in (a, b))
  for first, second in ((a, b), (b, a)):
    np.testing.assert_allclose(boxes.iou(first, second), iou, atol=1e-6)
    np.testing.assert_allclose(boxes.giou(first, second), giou, atol=1e-6)


@functools.cache
def _derivatives(function):
  """Returns the gradient to both boxes, and the Jacobian of the first one's."""
  first = jax.grad(lambda a, b: function(a, b).sum(), argnums=(0, 1))
  second = jax.jacrev(lambda a, b: first(a, b)[0])
  return jax.jit(first), jax.jit(second)


@pytest.mark.parametrize(('a', 'b'), [pair[:2] for pair in PAIRS])
def test_derivatives_are_finite(a, b):
  a, b = (jnp.array(v, jnp.float32) for v in (a, b))
  for function in (boxes.iou, boxes.giou):
    for derivative in _derivatives(function):
      assert np.isfinite(derivative(a, b)).all()


def test_forms_are_inverse():
  corners = jnp.asarray(_drawn(0, 7), jnp.float32)
  centres = boxes.to_centres(corners)
  np.testing.assert_allclose(
    boxes.to_centres(jnp.array([1.0, 2.0, 5.0, 4.0])), [3, 3, 4, 2]
  )
  np.testing.assert_allclose(boxes.to_corners(centres), corners, atol=1e-6)


def test_pairs_by_broadcasting():
  a, b = _drawn(0, 3), _drawn(5, 4)
  found = boxes.giou(jnp.asarray(a)[:, None], jnp.asarray(b)[None])
  assert found.shape == (3, 4)
  for i in range(3):
    for j in range(4):
      np.testing.assert_allclose(
        found[i, j], boxes.giou(jnp.asarray(a[i]), jnp.asarray(b[j])), rtol=1e-5
      )


def test_overlaps_equal_those_of_torchvision():
  a, b = (jnp.asarray(_drawn(s, 6), jnp.float32) for s in (0, 5))
  np.testing.assert_allclose(boxes.iou(a, b), TORCHVISION_IOU, atol=1e-6)
  np.testing.assert_allclose(boxes.giou(a, b), TORCHVISION_GIOU, atol=1e-6)


def test_boxes_in_disorder_have_no_area():
  assert boxes.area(jnp.array([2.0, 0.0, 1.0, 3.0])) == 0
  ordered = jnp.array([0.0, 0.0, 1.0, 1.0])
  assert boxes.iou(ordered, ordered[::-1]) == 0
