"""Tests of giajax.attacks.closed_form.spear."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import keys
from giajax import types
from giajax import world as worlds
from giajax.attacks.closed_form import spear
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.metrics import METRICS
from giajax.models.classification import lenet
from giajax.models.classification import mlp
from giajax.tasks import classification

K = 5
TASK = classification.classification(K)
NET = mlp.mlp((5, 4, 3), K, widths=(64, 32), normalisation='cifar10')
STEPS = 4


def world(net, batch_size, client=fedsgd.fedsgd):
  return worlds.World(net, TASK, client(net, TASK), batch_size)


def run(attack, client, x, y):
  """Returns what was found after no steps, and after all."""
  message = types.ServerMessage(NET.init(jax.random.key(0)))

  @jax.jit
  def reconstruct(x, y):
    batch = types.Batch(x, y)
    update = client.update(jax.random.key(1), message, batch)[0]
    obs = types.Observation(message, update, {})
    start = attack.init(jax.random.key(2), obs, {})

    def body(state, t):
      return attack.step(keys.at(jax.random.key(3), t), state, obs, {})

    end, infos = jax.lax.scan(body, start, jnp.arange(STEPS))
    return attack.read(start, obs, {}), attack.read(end, obs, {}), infos

  return reconstruct(x, y)


@pytest.mark.parametrize(
  ('batch_size', 'protocol'), [(1, 'fedsgd'), (4, 'fedavg')]
)
def test_finds_whole_batches_and_labels(batch_size, protocol):
  client = fedsgd.fedsgd
  if protocol == 'fedavg':
    client = functools.partial(fedavg.fedavg, num_images=batch_size, epochs=2)
  w = world(NET, batch_size, client)
  attack = spear.spear(w, num_steps=STEPS, samples=128)
  x = jax.random.uniform(jax.random.key(4), (batch_size, 5, 4, 3))
  y = jnp.arange(batch_size) % 3  # with equal labels
  before, found, infos = run(attack, w.client, x, y)
  psnr = METRICS['psnr'].score(found.batch.x[:, None], x)
  slots = np.argmax(psnr, axis=0)
  assert sorted(slots) == list(range(batch_size))
  assert psnr.max(axis=0).min() >= 50
  np.testing.assert_array_equal(found.batch.y[slots], y)
  assert found.valid.all() and infos.finite.all()
  assert found.score < 0.01
  # There is nothing to search for in a batch of one image.
  assert before.score > 0.1 or batch_size == 1


def test_the_sparsest_basis_is_of_independent_directions():
  half = np.sqrt(0.5)
  directions = jnp.array([[0, 1], [half, half], [1, 0], [-1, 0]])
  zeros = jnp.array([3, 4, 5, 5])
  found = spear._sparsest(directions, zeros)
  np.testing.assert_allclose(found, [[1, 0], [half, half]], atol=1e-6)


def test_a_draw_solves_all_rows_but_one():
  basis = jax.random.normal(jax.random.key(0), (20, 4))
  found = spear._draw(jax.random.key(1), basis, 9)
  assert found.shape == (9, 4)
  np.testing.assert_allclose(jnp.linalg.norm(found, axis=1), 1, atol=1e-5)
  assert (spear._zeros(found @ basis.T) == 3).all()


def test_refusals():
  with pytest.raises(ValueError, match='first layer is linear'):
    spear.spear(world(lenet.lenet((8, 8, 3), K), 2))
  with pytest.raises(ValueError, match='ReLU or LeakyReLU'):
    spear.spear(world(mlp.mlp((4, 4, 3), K, activation='tanh'), 2))
  with pytest.raises(ValueError, match=r'slope below zero is 0\.01'):
    spear.spear(world(mlp.mlp((4, 4, 3), K, activation='leaky_relu'), 2))
  with pytest.raises(ValueError, match='64 units and batch_size=64'):
    spear.spear(world(NET, 64))
  with pytest.raises(ValueError, match='4 pixels and batch_size=5'):
    spear.spear(world(mlp.mlp((2, 2, 1), K, widths=(64,)), 5))
  with pytest.raises(ValueError, match='num_steps=0'):
    spear.spear(world(NET, 2), num_steps=0)
