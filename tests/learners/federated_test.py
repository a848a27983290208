"""Tests of giajax.learners.federated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees
from giajax import types
from giajax.defenses import noise
from giajax.engine import learning
from giajax.engine import lessons
from tests.learners import pupils


def trained(seed=0, **more):
  return learning.learn(pupils.pupil(**more), pupils.course(seed=seed))


def test_a_network_learns_and_the_seed_decides():
  end, losses, _ = trained()
  fresh = lessons.accuracy(pupils.NET, pupils.TASK, pupils.START, pupils.EASY)
  assert fresh < 0.8
  assert lessons.accuracy(pupils.NET, pupils.TASK, end, pupils.EASY) == 1.0
  assert losses.values['loss'][-1] < 0.5 * losses.values['loss'][0]
  again, other = trained()[0], trained(seed=1)[0]
  same, not_same = (
    jax.tree.map(lambda a, b: bool((a == b).all()), end.params, v.params)
    for v in (again, other)
  )
  assert all(jax.tree.leaves(same)) and not any(jax.tree.leaves(not_same))


def test_first_step_by_hand():
  """One step is plain SGD with weight decay on the batch's mean gradient."""
  learner = pupils.pupil(
    epochs=1, batch_size=240, learning_rate=0.5, weight_decay=0.1
  )
  end, losses, _ = learning.learn(learner, pupils.course(1))
  start = pupils.START

  def loss(params):
    out = pupils.NET.apply(start._replace(params=params), pupils.X).out
    return pupils.TASK.loss(out, jnp.asarray(pupils.Y)).mean()

  value, gradient = jax.value_and_grad(loss)(start.params)
  np.testing.assert_allclose(losses.values['loss'], [value], rtol=1e-5)
  jax.tree.map(
    lambda p, g, e: np.testing.assert_allclose(
      p - 0.5 * (g + 0.1 * p), e, atol=1e-5
    ),
    start.params,
    gradient,
    end.params,
  )


def test_the_learning_rate_rises_first():
  rates = dict(epochs=1, batch_size=60, learning_rate=0.5, momentum=0.0)
  learner = pupils.pupil(**rates, weight_decay=0.0, warmup_steps=2)
  key = jax.random.key(0)
  batch = types.Batch(jnp.asarray(pupils.X[:60]), jnp.asarray(pupils.Y[:60]))
  first, _ = learner.step(key, learner.init(key), batch)
  second, _ = learner.step(key, first, batch)
  plain = pupils.pupil(**rates, weight_decay=0.0)
  whole, _ = plain.step(key, plain.init(key), batch)

  def moved(state):
    return jax.tree.map(jnp.subtract, state[0].params, pupils.START.params)

  assert trees.squared_norm(moved(first)) == 0
  # The second step takes the gradient of the start, at half of the rate.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b / 2, atol=1e-5),
    moved(second),
    moved(whole),
  )
  with pytest.raises(ValueError, match=r'below the 4 steps.*warmup_steps=4'):
    pupils.pupil(**rates, warmup_steps=4)


def test_a_defence_costs_accuracy():
  end, *_ = trained(defense=noise.gaussian_noise(scale=3.0))
  assert lessons.accuracy(pupils.NET, pupils.TASK, end, pupils.EASY) < 0.95


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    (dict(learning_rate=0.0), 'got learning_rate=0.0'),
    (dict(momentum=1.0), 'got momentum=1.0'),
    (dict(weight_decay=-1.0), 'got weight_decay=-1.0'),
    (dict(learning_rate=1e30), 'NaN or inf in epoch 1'),
  ],
)
def test_mistakes(change, words):
  with pytest.raises(ValueError, match=f'^Expected .*{words}'):
    trained(**change)
