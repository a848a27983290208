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
  np.testing.assert_allclose(hard, np.log(6) / 2, rtol=1e-6)
  soft = TASK.loss(out, jnp.array([[0.2, 0.3, 0.5], [0.5, 0.5, 0.0]]))
  expected = [np.log(3), 0.5 * np.log(2) + 0.5 * np.log(4)]
  np.testing.assert_allclose(soft, np.mean(expected), rtol=1e-6)


def test_hard_equals_one_hot():
  out = jax.random.normal(jax.random.key(0), (8, 3))
  y = jax.random.randint(jax.random.key(1), (8,), 0, 3)
  soft = TASK.loss(out, jax.nn.one_hot(y, 3))
  np.testing.assert_allclose(TASK.loss(out, y), soft, rtol=1e-5)


def test_large_logits_stay_finite():
  out = jnp.array([[1e4, -1e4, 0.0]])
  np.testing.assert_allclose(TASK.loss(out, jnp.array([1])), 2e4)
  slope = jax.grad(lambda o: TASK.loss(o, jnp.array([1])))(out)
  np.testing.assert_allclose(slope, [[1, -1, 0]], atol=1e-6)


# Each of these once broadcast, wrapped around or was dropped.
WRONG = {
  'below': (np.array([0, -1, 2, 1]), r'labels in \[0, 3\); got y=-1'),
  'above': (np.array([0, 3, 2, 3]), r'got y=3 \(2 of 4'),
  'column': (np.zeros((4, 1), np.int32), r'4 images.*shape=\(4, 1\)'),
  'one': (np.zeros(1, np.int32), r'shape=\(1,\)'),
  'scalar': (np.int32(1), r'shape=\(\)'),
  'floats': (np.zeros(4, np.float32), 'dtype=float32'),
  'bools': (np.zeros(4, bool), 'dtype=bool'),
  'classes': (np.full((4, 2), 0.5, np.float32), r'shape=\(4, 2\)'),
  'total': (
    np.full((4, 3), 0.5, np.float32),
    r'sum per image is 1; got y\[0\]',
  ),
  'negative': (
    np.array([[0, 0, 1]] * 3 + [[2, 0, -1]], np.float32),
    r'at least 0.*got y\[3\]=\[2.0, 0.0, -1.0\]',
  ),
  'nan': (np.full((4, 3), np.nan, np.float32), 'nan'),
}
VALUES = {'below', 'above', 'total', 'negative', 'nan'}


@pytest.mark.parametrize('case', sorted(WRONG))
def test_wrong_labels_are_refused(case):
  y, message = WRONG[case]
  with pytest.raises(ValueError, match=message):
    TASK.check(y, 4)
  with pytest.raises(ValueError, match=message):
    TASK.loss(jnp.zeros((4, 3)), jnp.asarray(y))


@pytest.mark.parametrize('case', sorted(set(WRONG) - VALUES))
def test_wrong_shapes_are_refused_while_tracing(case):
  y, message = WRONG[case]
  with pytest.raises(ValueError, match=message):
    jax.jit(TASK.loss)(jnp.zeros((4, 3)), y)


def test_harden_takes_the_likeliest():
  y = TASK.harden(TASK.predict(jnp.array([[0.0, 3.0, 1.0], [2.0, 0.0, 0.0]])))
  assert y.tolist() == [1, 0] and y.dtype == jnp.int32


@pytest.mark.parametrize('num_classes', [1, 0, -1])
def test_too_few_classes(num_classes):
  with pytest.raises(ValueError, match=f'num_classes={num_classes}'):
    classification.classification(num_classes)
