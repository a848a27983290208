"""Tests of giajax.tasks.base: losses of somebody's own, and torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.tasks import base
from giajax.tasks import TASKS


def test_a_loss_becomes_a_task():
  task = base.from_loss(lambda out, y: (out - y['a']) ** 2 * y['b'][:, 0])
  out = jnp.array([1.0, 2.0])
  y = {'a': jnp.array([0.0, 4.0]), 'b': jnp.array([[3.0], [1.0]])}
  assert task.loss(out, y) == (3 + 4) / 2
  other = {**y, 'a': jnp.array([1.0, 4.0])}
  np.testing.assert_array_equal(task.same(y, other), [0.5, 1])
  shares = base.shares(task.same, y, other)
  np.testing.assert_array_equal(shares, [[0.5, 0], [0, 1]])
  assert task.facts['labels'].draw is None and not task.exclusive


def test_what_is_wrong_with_a_loss_is_said():
  mean = base.from_loss(lambda out, y: jnp.mean((out - y) ** 2))
  with pytest.raises(ValueError, match=r'of each image, \[2\]; got .*\(\)'):
    mean.loss(jnp.zeros(2), jnp.zeros(2))
  with pytest.raises(ValueError, match=r'targets of 2 images.*got \(3,\)'):
    mean.loss(jnp.zeros(2), jnp.zeros(3))
  with pytest.raises(ValueError, match='got no array'):
    mean.check({}, 2)


CASES = {
  'multilabel': ({}, 'BCEWithLogitsLoss', {}),
  'regression': ({}, 'MSELoss', {}),
  'absolute': ({'loss': 'absolute'}, 'L1Loss', {}),
  'huber': ({'loss': 'huber'}, 'SmoothL1Loss', {}),
  'segmentation': ({}, 'CrossEntropyLoss', {}),
  'ignored': ({'ignored': 255}, 'CrossEntropyLoss', {'ignore_index': 255}),
}
ROWS = {
  'absolute': 'regression',
  'huber': 'regression',
  'ignored': 'segmentation',
}


@pytest.mark.parametrize('case', sorted(CASES))
def test_losses_are_those_of_torch(case):
  torch = pytest.importorskip('torch', reason='compares with torch')
  kwargs, name, options = CASES[case]
  row = ROWS.get(case, case)
  if row == 'segmentation':
    kwargs = {**kwargs, 'image_shape': (5, 6, 1)}
  task = TASKS[row](4, **kwargs)
  fact = task.facts['labels']
  out, y = (fact.draw(jax.random.key(i), 3, {}) for i in range(2))
  y = y if row == 'regression' else np.array(task.harden(fact.relax(y)))
  if case == 'ignored':
    y[0, :2] = 255
  theirs = torch.from_numpy(np.moveaxis(np.array(out), -1, 1).copy())
  theirs.requires_grad_()
  target = torch.from_numpy(np.array(y))
  target = target.long() if row == 'segmentation' else target.float()
  expected = getattr(torch.nn, name)(**options)(theirs, target)
  expected.backward()
  loss, slope = jax.value_and_grad(task.loss)(out, jnp.asarray(y))
  np.testing.assert_allclose(loss, expected.item(), rtol=1e-5)
  slope = np.moveaxis(np.asarray(slope), -1, 1)
  np.testing.assert_allclose(slope, theirs.grad.numpy(), rtol=1e-4, atol=1e-7)
