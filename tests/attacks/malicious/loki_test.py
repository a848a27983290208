"""Tests of giajax.attacks.malicious.loki."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks.malicious import loki
from giajax.clients import aggregate
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.metrics import METRICS
from giajax.models.classification import mlp
from giajax.tasks import classification

SHAPE, K, CLIENTS, SHARE = (8, 8, 3), 4, 3, 4
B = CLIENTS * SHARE
TASK = classification.classification(K)
NET = mlp.mlp(SHAPE, K, widths=(16,), normalisation='cifar10')
SGD = functools.partial(fedsgd.fedsgd, task=TASK)
AVG = functools.partial(
  fedavg.fedavg, task=TASK, num_images=SHARE, batch_size=2, learning_rate=1e-3
)
KNOWN = dict(bins=256, location=0.5, scale=0.1)


def batch():
  """Images whose brightness is a client's own sequence of quantiles."""
  levels = jnp.linspace(-1.5, 1.5, SHARE) * 0.1
  shift = jnp.linspace(0, 0.01, CLIENTS)  # other bins, or the same
  noise = jax.random.uniform(jax.random.key(1), (CLIENTS, SHARE, *SHAPE))
  noise -= noise.mean((2, 3, 4), keepdims=True)
  level = 0.5 + levels + shift[:, None]
  x = level[..., None, None, None] + 0.3 * noise
  return types.Batch(x.reshape(B, *SHAPE), jnp.arange(B) % K)


def observed(client, **kwargs):
  believed = aggregate.aggregate(client(NET), CLIENTS)
  made = loki.loki(worlds.World(NET, TASK, believed, B), **KNOWN | kwargs)
  given = made.on_net(NET)
  real = aggregate.aggregate(client(given), CLIENTS)

  @jax.jit
  def run(batch):
    sent = types.ServerMessage(given.init(jax.random.key(0)))
    message = made.craft(jax.random.key(0), sent, {}, ())
    update = real.update(jax.random.key(2), message, batch)[0]
    obs = types.Observation(message, update, {})
    return made.read({}, obs, {}), update, message

  return run(batch())


@pytest.mark.parametrize('client', [SGD, functools.partial(AVG, epochs=2)])
def test_finds_each_clients_images_in_its_own_slots(client):
  found, _, _ = observed(client)
  truth = batch().x.reshape(CLIENTS, SHARE, *SHAPE)
  slots = found.batch.x.reshape(CLIENTS, SHARE, *SHAPE)
  assert found.valid.all()
  for own, theirs in zip(truth, slots):
    psnr = METRICS['psnr'].score(own[:, None], theirs[None])
    assert psnr.max(axis=1).min() >= 40


def test_clients_do_not_meet():
  """The part of one client is what it alone would have sent, over n."""
  _, update, message = observed(SGD)
  kernel = trees.named_leaves(update.delta)['front.bins.first.kernel']
  parts = kernel.reshape(CLIENTS, -1, kernel.shape[1])
  world = worlds.World(NET, TASK, aggregate.aggregate(SGD(NET), CLIENTS), B)
  given = loki.loki(world, **KNOWN).on_net(NET)
  train = jax.jit(SGD(given).update)
  for j in range(CLIENTS):
    own = {name: leaf[j] for name, leaf in message.each.items()}
    alone = aggregate.received(message, own)
    share = jax.tree.map(lambda a, j=j: a[j * SHARE : (j + 1) * SHARE], batch())
    sent = train(jax.random.key(0), alone, share)[0]
    leaves = trees.named_leaves(sent.delta)
    lone = leaves['front.bins.first.kernel'].reshape(parts.shape)
    np.testing.assert_allclose(
      lone[j] / CLIENTS, parts[j], rtol=1e-3, atol=1e-6
    )
    np.testing.assert_array_equal(np.delete(lone, j, axis=0), 0)


def test_grants():
  world = worlds.World(NET, TASK, aggregate.aggregate(SGD(NET), CLIENTS), B)
  needs = loki.loki(world).needs
  assert {'individual_models', 'alter_architecture', 'proxy_data'} <= needs
  assert 'proxy_data' not in loki.loki(world, **KNOWN).needs


@pytest.mark.parametrize(
  ('kwargs', 'told'),
  [
    (dict(bins=3), 'bins=3'),
    (dict(scaling=0.0), 'scaling=0.0'),
    (dict(law='cauchy'), 'gaussian, laplace'),
    (dict(location=None), 'location=None'),
  ],
)
def test_refusals(kwargs, told):
  world = worlds.World(NET, TASK, aggregate.aggregate(SGD(NET), CLIENTS), B)
  with pytest.raises(ValueError, match=told):
    loki.loki(world, **KNOWN | kwargs)


def test_refuses_a_single_client():
  world = worlds.World(NET, TASK, SGD(NET), SHARE)
  with pytest.raises(ValueError, match=r'at least 2 clients.*clients=1'):
    loki.loki(world, **KNOWN)
