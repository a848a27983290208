"""Tests of giajax.tasks.segmentation against values by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.tasks import segmentation

SHAPE = (2, 2, 3)
TASK = segmentation.segmentation(2, SHAPE)
OUT = jnp.zeros((2, 2, 2, 2)).at[0, 0, 0, 1].set(np.log(3))
Y = np.array([[[1, 0], [0, 1]], [[0, 0], [1, 1]]])


def test_loss_by_hand():
  expected = (np.log(4 / 3) + 7 * np.log(2)) / 8
  np.testing.assert_allclose(
    TASK.loss(OUT, jnp.asarray(Y)), expected, rtol=1e-6
  )
  soft = jax.nn.one_hot(Y, 2)
  np.testing.assert_allclose(TASK.loss(OUT, soft), expected, rtol=1e-6)


def test_ignored_pixels_leave_the_mean_of_the_batch():
  task = segmentation.segmentation(2, SHAPE, ignored=255)
  y = Y.copy()
  y[1] = 255
  y[1, 0, 0] = 0
  expected = (np.log(4 / 3) + 4 * np.log(2)) / 5
  np.testing.assert_allclose(
    task.loss(OUT, jnp.asarray(y)), expected, rtol=1e-6
  )
  assert not task.additive
  nothing = jnp.full_like(Y, 255)
  assert task.loss(OUT, nothing) == 0
  slope = jax.grad(lambda out: task.loss(out, nothing))(OUT)
  np.testing.assert_array_equal(slope, np.zeros_like(OUT))


def test_shares_of_pixels():
  task = segmentation.segmentation(2, SHAPE, ignored=255)
  y, claimed = Y.copy(), np.zeros_like(Y)
  y[1, 0] = 255
  np.testing.assert_allclose(task.same(y, claimed), [0.5, 0])


@pytest.mark.parametrize(
  ('y', 'message'),
  [
    (np.full((2, 2, 2), 2), r'in \[0, 2\); got y=2 \(8 of 8 pixels'),
    (np.zeros((2, 2, 3), int), r'got shape=\(2, 2, 3\)'),
    (np.zeros((2, 2, 2), np.float32), r'shape \(2, 2, 2, 2\)'),
  ],
)
def test_wrong_targets_are_refused(y, message):
  with pytest.raises(ValueError, match=message):
    TASK.check(y, 2)


def test_wrong_arguments_are_refused():
  with pytest.raises(ValueError, match='num_classes=1'):
    segmentation.segmentation(1, SHAPE)
  with pytest.raises(ValueError, match='ignored=1; use one that is no class'):
    segmentation.segmentation(2, SHAPE, ignored=1)
