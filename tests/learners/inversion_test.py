"""Inversion networks learn what an update says about its images."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from giajax import world as worlds
from giajax.attacks.generative import lti
from giajax.clients import fedsgd
from giajax.generative import GENERATORS
from giajax.learners import inversion
from giajax.models import base as models
from giajax.models.classification import mlp
from giajax.tasks import classification

K = 4
TASK = classification.classification(K)


@functools.cache
def learner(row, b, shape=(4, 4, 1), **kwargs):
  """Returns a learner on a linear network, its world and generator."""
  net = mlp.mlp(shape, K, widths=() if row == 'lti' else (9,))
  world = worlds.World(net, TASK, fedsgd.fedsgd(net, TASK), b)
  weights = net.init(jax.random.key(0))
  options = {
    'lti': dict(entries=models.count(weights), batch_size=b, width=64),
    'fgla': dict(features=9, width=2),
  }[row]
  generator = GENERATORS[row](shape, **options, lowering='lax')
  message = types.ServerMessage(weights)
  settings = {'num_steps': 10, 'batch_size': 3, **kwargs}
  made = inversion.inversion(world, generator, message, **settings)
  return made, world, generator, message


def drawn(key, count, shape=(4, 4, 1)):
  one, other = jax.random.split(key)
  x = jax.random.uniform(one, (count, *shape))
  return types.Batch(x, jax.random.randint(other, (count,), 0, K))


def avals(tree):
  return jax.tree.map(
    lambda leaf: (leaf.shape, leaf.dtype, jax.typeof(leaf).weak_type), tree
  )


def test_a_linear_network_gives_its_image_away():
  """The gradient is the image times a number: a few steps come close to it."""
  made, world, generator, message = learner(
    'lti', 1, num_steps=500, batch_size=32, learning_rate=3e-3
  )

  @jax.jit
  def trained(key):
    def step(state, key):
      return made.step(key, state, drawn(key, made.batch_size))

    state = made.init(key)
    state, losses = jax.lax.scan(step, state, jax.random.split(key, 500))
    return made.read(key, state), losses['mse']

  variables, losses = trained(jax.random.key(1))
  test = drawn(jax.random.key(2), 100)
  mean_image = jnp.square(test.x - 0.5).mean()
  np.testing.assert_allclose(mean_image, 1 / 12, rtol=0.05)
  assert losses[0] > 0.07 > 0.02 > losses[-10:].mean()
  error = jax.jit(inversion.error(world, generator, message))
  assert error(jax.random.key(3), variables, test)[0] < mean_image / 5


@pytest.mark.parametrize(('row', 'b'), [('lti', 1), ('lti', 3), ('fgla', 2)])
def test_a_step_is_a_fixed_point_and_lowers_the_loss(row, b):
  shape = (4, 4, 1) if row == 'lti' else (8, 8, 1)
  made, *_ = learner(row, b, shape)
  assert made.batch_size == 3 * b
  batch = drawn(jax.random.key(1), made.batch_size, shape)
  seen = {}

  @jax.jit
  def step(state):
    after, losses = made.step(jax.random.key(2), state, batch)
    seen['before'], seen['after'] = avals(state), avals(after)
    seen['losses'] = avals(losses)
    return after, losses

  state = made.init(jax.random.key(0))
  losses = []
  for _ in range(10):
    state, loss = step(state)
    losses.append(float(loss['mse']))
  assert seen['before'] == seen['after']
  assert seen['losses'] == {'mse': ((), jnp.float32, False)}
  assert np.isfinite(losses).all() and losses[-1] < losses[0]
  again = made.init(jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, step(again), step(again))
  read = made.read(jax.random.key(0), state)
  jax.tree.map(np.testing.assert_array_equal, read, state.variables)


def test_the_loss_is_that_of_the_best_order():
  """Against all orders of three images, in each of three batches."""
  made, world, generator, message = learner('lti', 3)
  batch = drawn(jax.random.key(1), 9)
  state = made.init(jax.random.key(0))

  def latent(x, y):
    update, _ = world.client.update(
      jax.random.key(0), message, types.Batch(x, y)
    )
    return lti.latents(world)(types.Observation(message, update, {}), y)[0]

  apart = types.Batch(batch.x.reshape(3, 3, 4, 4, 1), batch.y.reshape(3, 3))

  @jax.jit
  def made_of(state):
    z = jax.vmap(latent)(*apart)
    return generator.apply(state.variables, z, train=True).out

  x_hat = np.asarray(made_of(state)).reshape(apart.x.shape)
  best = [
    min(
      np.square(images - x[list(order)]).mean()
      for order in itertools.permutations(range(3))
    )
    for images, x in zip(x_hat, np.asarray(apart.x))
  ]
  given = np.square(x_hat - np.asarray(apart.x)).mean()
  step = jax.jit(made.step)
  losses = step(jax.random.key(2), state, batch)[1]
  np.testing.assert_allclose(losses['mse'], np.mean(best), rtol=1e-5)
  assert losses['mse'] < given
  # The update does not depend on the order, and neither does the loss.
  turned = jax.tree.map(
    lambda leaf: leaf[jnp.array([2, 0, 1, *range(3, 9)])], batch
  )
  other = step(jax.random.key(2), state, turned)[1]
  np.testing.assert_allclose(other['mse'], losses['mse'], rtol=1e-4)


def test_features_are_decoded_in_the_order_of_the_images():
  made, *_ = learner('fgla', 2, (8, 8, 1))
  batch = drawn(jax.random.key(1), made.batch_size, (8, 8, 1))
  batch = batch._replace(y=jnp.array([0, 1] * 3))
  state = made.init(jax.random.key(0))
  step = jax.jit(made.step)
  swapped = jax.tree.map(
    lambda leaf: leaf[jnp.array([1, 0, 3, 2, 5, 4])], batch
  )
  first, second, mixed = (
    step(jax.random.key(2), state, b)[1]['mse']
    for b in (batch, swapped, batch._replace(y=swapped.y))
  )
  np.testing.assert_allclose(first, second, rtol=1e-5)
  assert abs(mixed - first) > 1e-6


@pytest.mark.parametrize(
  'kwargs', [dict(num_steps=0), dict(batch_size=1), dict(learning_rate=0.0)]
)
def test_numbers_out_of_range_are_refused(kwargs):
  (name,) = kwargs
  with pytest.raises(ValueError, match=f'^Expected .*{name}'):
    learner('lti', 1, **kwargs)


def test_another_generator_is_refused():
  _, world, _, message = learner('fgla', 2, (8, 8, 1))
  other = GENERATORS['dcgan']((8, 8, 1), width=2, latent=4)
  with pytest.raises(ValueError, match=r'^Expected a known inversion network'):
    inversion.error(world, other, message)
