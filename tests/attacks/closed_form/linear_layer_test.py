"""Tests of giajax.attacks.closed_form.linear_layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from giajax import world as worlds
from giajax.attacks.closed_form import linear_layer
from giajax.clients import fedsgd
from giajax.metrics import METRICS
from giajax.models.classification import lenet
from giajax.models.classification import mlp
from giajax.tasks import classification

K = 5
TASK = classification.classification(K)


def world(net, batch_size=1):
  return worlds.World(net, TASK, fedsgd.fedsgd(net, TASK), batch_size)


def read(net, x, y, change=lambda delta: delta):
  """Returns what the attack reads from the gradient of one image."""
  client = fedsgd.fedsgd(net, TASK)
  attack = linear_layer.linear_layer(world(net))
  message = types.ServerMessage(net.init(jax.random.key(0)))

  @jax.jit
  @jax.vmap
  def run(x, y):
    batch = types.Batch(x[None], y[None])
    update = client.update(jax.random.key(0), message, batch)[0]
    update = update._replace(delta=change(update.delta))
    obs = types.Observation(message, update, {})
    return attack.read(attack.init(jax.random.key(0), obs, {}), obs, {})

  return run(x, y)


@pytest.mark.parametrize('normalisation', ['none', 'cifar10'])
@pytest.mark.parametrize('widths', [(), (12,), (12, 8)])
@pytest.mark.parametrize('activation', ['relu', 'sigmoid'])
def test_finds_random_images_and_labels(activation, widths, normalisation):
  net = mlp.mlp(
    (6, 5, 3),
    K,
    widths=widths,
    activation=activation,
    normalisation=normalisation,
  )
  x = jax.random.uniform(jax.random.key(1), (20, 6, 5, 3))
  y = jax.random.randint(jax.random.key(2), (20,), 0, K)
  found = read(net, x, y)
  assert found.valid.all()
  assert METRICS['psnr'].score(found.batch.x[:, 0], x).min() >= 60
  np.testing.assert_array_equal(found.batch.y[:, 0], y)
  assert found.batch.y.dtype == jnp.int32
  assert found.score.max() < 1e-9


def test_tiny_gradients_tell_as_much():
  net = mlp.mlp((4, 4, 1), K, widths=(6,), activation='sigmoid')
  x = jax.random.uniform(jax.random.key(1), (3, 4, 4, 1))

  def shrunk(delta):
    return jax.tree.map(lambda v: 1e-10 * v, delta)

  found = read(net, x, jnp.zeros(3, jnp.int32), shrunk)
  assert METRICS['psnr'].score(found.batch.x[:, 0], x).min() >= 60


def test_an_image_that_reached_no_unit_is_not_found():
  net = mlp.mlp((4, 4, 1), K, widths=(6,))
  x = jax.random.uniform(jax.random.key(1), (2, 4, 4, 1))

  def dead(delta):
    first = jax.tree.map(jnp.zeros_like, delta['layers']['0'])
    return {'layers': {**delta['layers'], '0': first}}

  found = read(net, x, jnp.zeros(2, jnp.int32), dead)
  assert not found.valid.any()
  assert np.isfinite(found.batch.x).all() and np.isfinite(found.score).all()


def test_noise_raises_the_score():
  net = mlp.mlp((4, 4, 1), K, widths=(6,), activation='sigmoid')
  x = jax.random.uniform(jax.random.key(1), (2, 4, 4, 1))

  def noisy(delta):
    def draw(v):
      return v + 0.3 * jax.random.normal(jax.random.key(3), v.shape)

    return jax.tree.map(draw, delta)

  found = read(net, x, jnp.zeros(2, jnp.int32), noisy)
  assert found.score.min() > 0.01
  assert METRICS['psnr'].score(found.batch.x[:, 0], x).max() < 30


def test_refusals():
  with pytest.raises(ValueError, match='batch_size=2'):
    linear_layer.linear_layer(world(mlp.mlp((4, 4, 1), K), 2))
  with pytest.raises(ValueError, match='first layer is linear'):
    linear_layer.linear_layer(world(lenet.lenet((8, 8, 3), K)))


def test_takes_no_steps():
  attack = linear_layer.linear_layer(world(mlp.mlp((4, 4, 1), K)))
  assert attack.num_steps == 0
  assert attack.needs == {'model', 'batch_size'}
