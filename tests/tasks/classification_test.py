"""Tests of giajax.tasks.classification against values by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.tasks import classification

TASK = classification.classification(3)


def test_loss_by_hand():
  out = jnp.array([[0.0, 0.0, 0.0], [np.log(2), 0.0, 0.0]])
  hard = TASK.loss(out, jnp.array([1, 0]))
  np.testing.assert_allclose(hard, [np.log(3), np.log(2)], rtol=1e-6)
  soft = TASK.loss(out, jnp.array([[0.2, 0.3, 0.5], [0.5, 0.5, 0.0]]))
  expected = [np.log(3), 0.5 * np.log(2) + 0.5 * np.log(4)]
  np.testing.assert_allclose(soft, expected, rtol=1e-6)


def test_hard_equals_one_hot():
  out = jax.random.normal(jax.random.key(0), (8, 3))
  y = jax.random.randint(jax.random.key(1), (8,), 0, 3)
  soft = TASK.loss(out, jax.nn.one_hot(y, 3))
  np.testing.assert_allclose(TASK.loss(out, y), soft, rtol=1e-5)


def test_large_logits_stay_finite():
  out = jnp.array([[1e4, -1e4, 0.0]])
  np.testing.assert_allclose(TASK.loss(out, jnp.array([1])), [2e4])
  slope = jax.grad(lambda o: TASK.loss(o, jnp.array([1])).sum())(out)
  np.testing.assert_allclose(slope, [[1, -1, 0]], atol=1e-6)


def test_random_targets_cover_all_classes():
  y = TASK.random_target(jax.random.key(0), 3000)
  share = np.bincount(y, minlength=3) / 3000
  assert len(share) == 3
  np.testing.assert_allclose(share, 1 / 3, atol=0.05)


def test_harden_takes_the_likeliest():
  y = TASK.harden(TASK.relax(jnp.array([[0.0, 3.0, 1.0], [2.0, 0.0, 0.0]])))
  assert y.tolist() == [1, 0] and y.dtype == jnp.int32


@pytest.mark.parametrize('num_classes', [1, 0, -1])
def test_too_few_classes(num_classes):
  with pytest.raises(ValueError, match=f'num_classes={num_classes}'):
    classification.classification(num_classes)
