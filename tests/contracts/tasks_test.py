"""What every row of TASKS promises."""

from collections.abc import Callable
import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import threat
from giajax.tasks import base as tasks
from giajax.tasks import TASKS
from giajax.tasks.parts import objects
from giajax.tasks.parts import task_aligned

K = 4
IMAGE = (32, 64, 3)  # of the tasks whose targets have its size


def _detected(count, seed):
  """Returns what a detector of these images gives."""
  points = len(task_aligned.points(IMAGE)[0])
  boxes, scores = jax.random.split(jax.random.key(seed))
  near = 0.4 * jnp.arange(16)  # boxes are smaller than the image
  return {
    'boxes': jax.random.normal(boxes, (count, points, 4, 16)) - near,
    'scores': jax.random.normal(scores, (count, points, K)),
  }


def _objects(count, seed):
  rng = np.random.default_rng(seed)
  corners = rng.random((count, 3, 2), np.float32) * 0.5
  sizes = 0.1 + 0.4 * rng.random((count, 3, 2), np.float32)
  boxes = np.concatenate([corners, corners + sizes], axis=-1)
  classes = rng.integers(0, K, (count, 3)).astype(np.int32)
  return objects.Objects(boxes, classes, rng.random((count, 3)) < 0.7)


def _queried(count, seed):
  """Returns what a detector of the form of DETR gives."""
  boxes, scores = jax.random.split(jax.random.key(seed))
  drawn = jax.random.normal(boxes, (count, 2, 9, 4)) - 1
  return {
    'boxes': jax.nn.sigmoid(drawn),
    'scores': jax.random.normal(scores, (count, 2, 9, K + 1)),
  }


# Other forms of rows, with their arguments.
_FORMS = {'detr': ('detection', {'loss': 'detr'})}
# Outputs and hard targets, `(count, seed)`, of tasks that draw none.
_MADE = {'detection': (_detected, _objects), 'detr': (_queried, _objects)}


class TaskCase(NamedTuple):
  """A row of TASKS, with outputs and targets `(count, seed)` for it."""

  task: tasks.Task
  outputs: Callable[[int, int], Any]
  targets: Callable[[int, int], Any]


@pytest.fixture(scope='module', params=sorted({*TASKS, *_FORMS}))
def task_case(request):
  """Returns a row, with its functions compiled once for all tests."""
  name, kwargs = _FORMS.get(request.param, (request.param, {}))
  factory = TASKS[name]
  if 'image_shape' in inspect.signature(factory).parameters:
    kwargs = {**kwargs, 'image_shape': IMAGE}
  task = factory(K, **kwargs)
  task = task._replace(
    loss=jax.jit(task.loss),
    predict=jax.jit(task.predict),
    harden=jax.jit(task.harden),
    same=jax.jit(task.same),
  )
  if request.param in _MADE:
    return TaskCase(task, *_MADE[request.param])

  def outputs(count, seed):
    return task.facts['labels'].draw(jax.random.key(seed), count, {})

  return TaskCase(
    task,
    outputs,
    lambda count, seed: task.harden(task.predict(outputs(count, seed))),
  )


def _one(tree, i):
  return jax.tree.map(lambda leaf: leaf[i : i + 1], tree)


def test_task_targets_fit_its_loss(task_case):
  task, outputs, targets = task_case
  task.check(targets(7, 0), 7)
  loss = task.loss(outputs(7, 1), targets(7, 0))
  assert loss.shape == () and loss.dtype == jnp.float32
  assert np.isfinite(loss) and loss >= 0


def test_task_relaxed_targets_fit_its_loss(task_case):
  task, outputs, _ = task_case
  values = {}
  for name, fact in task.facts.items():
    key = jax.random.key(0)
    values[name] = fact.relax(fact.draw(key, 7, values))
  soft = task.join(values)
  task.check(soft, 7)
  assert np.isfinite(task.loss(outputs(7, 1), soft))


def test_what_a_network_says_is_a_target(task_case):
  task, outputs, targets = task_case
  said = task.harden(task.predict(outputs(4, 3)))
  task.check(said, 4)
  share = np.asarray(task.same(targets(4, 0), said))
  assert share.shape == (4,) and (share >= 0).all() and (share <= 1).all()


def test_known_facts_shape_those_that_are_drawn(task_case):
  task, outputs, targets = task_case
  y = targets(5, 0)
  for name, fact in task.facts.items():
    known = {n: f.of(y) for n, f in task.facts.items() if n != name}
    own = fact.relax(fact.draw(jax.random.key(2), 5, known))
    joined = task.join({**known, name: own})
    task.check(joined, 5)

    def loss(free, known=known, name=name, fact=fact):
      values = {**known, name: fact.relax(free)}
      return task.loss(outputs(5, 1), task.join(values))

    free = fact.draw(jax.random.key(2), 5, known)
    slopes = jax.tree.leaves(jax.jit(jax.grad(loss))(free))
    assert all(np.isfinite(leaf).all() for leaf in slopes)
    assert any(np.any(np.asarray(leaf) != 0) for leaf in slopes)


def test_task_hardens_once(task_case):
  task, _, targets = task_case
  hard = targets(7, 0)
  again = task.harden(jax.tree.map(jnp.asarray, hard))
  jax.tree.map(np.testing.assert_array_equal, again, hard)


def test_task_is_the_mean_over_images_if_it_is_additive(task_case):
  task, outputs, targets = task_case
  out, y = outputs(7, 0), jax.tree.map(jnp.asarray, targets(7, 1))
  each = [task.loss(_one(out, i), _one(y, i)) for i in range(7)]
  same = np.isclose(task.loss(out, y), np.mean(each), rtol=1e-5)
  assert same == task.additive


def test_task_compares_targets(task_case):
  task, _, targets = task_case
  y, other = (jax.tree.map(jnp.asarray, targets(7, i)) for i in range(2))
  np.testing.assert_allclose(task.same(y, y), np.ones(7), rtol=1e-6)
  share = np.asarray(task.same(y, other))
  assert share.shape == (7,) and (share >= 0).all() and (share < 1).any()
  three = jax.tree.map(lambda leaf: leaf[:3], y)
  shares = tasks.shares(task.same, three, other)
  assert shares.shape == (3, 7)
  np.testing.assert_allclose(np.diagonal(shares), share[:3], rtol=1e-6)


def test_facts_of_a_task_are_its_targets(task_case):
  task, _, targets = task_case
  y = targets(3, 0)
  assert {*task.facts} <= {*threat.GRANTS} and 'labels' in task.facts
  joined = task.join({name: fact.of(y) for name, fact in task.facts.items()})
  jax.tree.map(np.testing.assert_array_equal, joined, y)


def test_task_refuses_targets_of_another_number_of_images(task_case):
  task, _, targets = task_case
  with pytest.raises(ValueError, match=r'^Expected .* of 4 images'):
    task.check(targets(3, 0), 4)


def test_task_refuses_targets_of_another_shape_while_tracing(task_case):
  task, outputs, targets = task_case
  y = jax.tree.map(lambda leaf: leaf[..., None], targets(7, 0))
  with pytest.raises(ValueError, match=r'^Expected'):
    jax.jit(task.loss)(outputs(7, 0), y)
