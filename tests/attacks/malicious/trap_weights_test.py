"""Tests of giajax.attacks.malicious.trap_weights."""

import functools
import math

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks.malicious import trap_weights
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.metrics import assignment
from giajax.metrics import METRICS
from giajax.models import base as models
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models.classification import lenet
from giajax.models.classification import mlp
from giajax.tasks import classification

K, SHAPE = 5, (6, 6, 3)
TASK = classification.classification(K)


def network(**kwargs):
  return mlp.mlp(SHAPE, K, widths=(64,), normalisation='cifar10', **kwargs)


def world(net, batch_size):
  return worlds.World(net, TASK, fedsgd.fedsgd(net, TASK), batch_size)


def images(key, count):
  """Smooth images of different brightness."""
  coarse = jax.random.uniform(key, (count, 3, 3, 3))
  return coarse.repeat(2, 1).repeat(2, 2)


@functools.cache
def program(batch_size, **kwargs):
  """Returns the batch, what was sent, and what was found behind noise."""
  net = network()
  client = fedsgd.fedsgd(net, TASK)
  attack = trap_weights.trap_weights(world(net, batch_size), **kwargs)

  @jax.jit
  def run(noise):
    y = jax.random.randint(jax.random.key(2), (batch_size,), 0, K)
    batch = types.Batch(images(jax.random.key(1), batch_size), y)
    side = {'proxy_data': images(jax.random.key(3), 128)}
    message = types.ServerMessage(net.init(jax.random.key(4)))
    message = attack.craft(jax.random.key(5), message, side, ())
    update = client.update(jax.random.key(0), message, batch)[0]
    delta = jax.tree.map(
      lambda v: v + noise * jax.random.normal(jax.random.key(9), v.shape),
      update.delta,
    )
    obs = types.Observation(message, update._replace(delta=delta), {})
    return batch, message, attack.read({}, obs, {})

  return run


def attacked(batch_size, *, noise=0.0, **kwargs):
  return program(batch_size, **kwargs)(noise)


def recovered(batch, found):
  """Returns the images that came back exactly, and their labels."""
  slots = assignment.assign(batch.x, found.batch.x, found.valid)
  psnr = np.asarray(METRICS['psnr'].score(batch.x, found.batch.x[slots]))
  exact = (slots >= 0) & (psnr >= 60)
  return exact, np.asarray(found.batch.y)[slots]


@pytest.mark.parametrize('batch_size', [1, 16])
def test_finds_images_and_labels(batch_size):
  batch, _, found = attacked(batch_size)
  exact, y = recovered(batch, found)
  assert exact.mean() >= 0.9
  np.testing.assert_array_equal(y[exact], batch.y[exact])
  assert found.score < 0.2


def test_peeling_finds_what_one_reading_misses():
  alone, _ = recovered(*attacked(16, peelings=1)[::2])
  peeled, _ = recovered(*attacked(16)[::2])
  assert 0 < alone.sum() < peeled.sum()


def test_rows_are_halves_of_one_scale():
  net = network()
  attack = trap_weights.trap_weights(world(net, 4), gamma=0.8)
  fresh = types.ServerMessage(net.init(jax.random.key(4)))
  own, kernel = (
    trees.named_leaves(q.variables.params)['layers.0.kernel']
    / np.repeat(net.spec.std, 36)[:, None]
    for q in (fresh, attack.craft(jax.random.key(5), fresh, {}, ()))
  )
  assert ((kernel < 0).sum(0) == 54).all()
  assert ((kernel > 0).sum(0) == 54).all()
  positive = jnp.where(kernel > 0, kernel, 0)
  np.testing.assert_allclose(
    positive.sum(0), 0.8 * (positive - kernel).sum(0), rtol=1e-4
  )
  # gamma shrinks half of them.
  assert float(kernel.std() / own.std()) == pytest.approx(0.9, abs=0.05)


def test_strength_is_how_far_rows_move():
  net = network()
  fresh = types.ServerMessage(net.init(jax.random.key(4)))

  def moved(strength):
    make = trap_weights.trap_weights
    attack = make(world(net, 4), gamma=0.8, strength=strength)
    sent = attack.craft(jax.random.key(5), fresh, {}, ())
    own, other = (
      trees.named_leaves(q.variables.params)['layers.0.kernel']
      for q in (fresh, sent)
    )
    return other - own

  np.testing.assert_allclose(moved(0.3), 0.3 * moved(1.0), atol=1e-6)


def test_noise_hides_images_and_raises_the_score():
  batch, _, found = attacked(16, noise=0.1)
  assert not recovered(batch, found)[0].any()
  assert found.score > attacked(16)[-1].score + 0.1


def test_refusals():
  for kwargs, message in (
    (dict(gamma=1.5), 'gamma=1.5'),
    (dict(strength=0.0), 'strength=0.0'),
    (dict(peelings=0), 'peelings=0'),
    (dict(images_per_unit=0.0), 'images_per_unit=0.0'),
    (dict(images_per_unit=4.5), 'images_per_unit=4.5, batch_size=4'),
    (dict(images_per_unit=float('nan')), 'images_per_unit=nan'),
  ):
    with pytest.raises(ValueError, match=message):
      trap_weights.trap_weights(world(network(), 4), **kwargs)
  with pytest.raises(ValueError, match='Expected a ReLU'):
    trap_weights.trap_weights(world(network(activation='sigmoid'), 4))
  with pytest.raises(ValueError, match='too few channels'):
    trap_weights.trap_weights(world(lenet.lenet((8, 8, 3), K), 4))
  net = network()
  client = fedavg.fedavg(net, TASK, num_images=4, epochs=2, batch_size=4)
  with pytest.raises(ValueError, match='local_steps=2'):
    trap_weights.trap_weights(worlds.World(net, TASK, client, 4))


class Dropping(nnx.Module):
  """An MLP with dropout in front of its first layer, and behind it."""

  def __init__(self, before, behind, *, rngs):
    size = math.prod(SHAPE)
    self.layers = layers.Sequential(
      [
        layers.Dropout(before),
        layers.Linear(size, 16, rngs=rngs),
        nnx.relu,
        layers.Dropout(behind),
        layers.Linear(16, K, rngs=rngs),
      ]
    )

  def __call__(self, x):
    return self.layers(layers.flatten(x))


@pytest.mark.parametrize(
  'rates, fits', [((0.5, 0.0), False), ((0.0, 0.5), True)]
)
def test_dropout_is_refused_in_front_of_the_layer(rates, fits):
  net = from_nnx.from_nnx(
    lambda rngs: Dropping(*rates, rngs=rngs),
    models.make_spec('dropping', SHAPE, K, 'cifar10'),
  )
  trained, fixed = (
    worlds.World(net, TASK, fedsgd.fedsgd(net, TASK, train_mode=mode), 4)
    for mode in (True, False)
  )
  trap_weights.trap_weights(fixed)
  if fits:
    trap_weights.trap_weights(trained)
    return
  with pytest.raises(ValueError, match='no random layers in front of'):
    trap_weights.trap_weights(trained)


def test_needs_public_images_only_to_fit():
  needs = {'model', 'batch_size', 'alter_parameters'}
  make = trap_weights.trap_weights
  assert make(world(network(), 4), gamma=0.9).needs == needs
  assert make(world(network(), 4)).needs == needs | {'proxy_data'}
