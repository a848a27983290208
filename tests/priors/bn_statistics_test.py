"""Tests of giajax.priors.bn_statistics: the truth has no distance to itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from giajax import world as worlds
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.models import inspect
from giajax.models import subset
from giajax.models.classification import mlp
from giajax.models.classification import resnet
from giajax.models.classification import vit
from giajax.priors import bn_statistics
from giajax.tasks import classification

K = 3
TASK = classification.classification(K)
KEY = jax.random.key(0)


@functools.cache
def net(name='resnet'):
  if name == 'vit':
    return vit.vit((4, 4, 1), K, width=6, heads=2, depth=1, patch=2)
  return resnet.resnet((4, 4, 1), K, blocks=(1, 1), width=0.05)


def world(name='resnet', train_mode=True):
  client = fedsgd.fedsgd(net(name), TASK, train_mode=train_mode)
  return worlds.World(net(name), TASK, client, 3)


def seen(world, term, side=None):
  """Returns the term at the true batch, and at another one."""
  variables = world.net.init(jax.random.key(1))
  # Buffers of a network that has seen something.
  stats = jax.tree.map(lambda v: v + 0.3, variables.stats)
  message = types.ServerMessage(variables._replace(stats=stats))
  x = jax.random.uniform(jax.random.key(2), (3, 4, 4, 1))
  batch = types.Batch(x, jnp.arange(3))
  update = jax.jit(lambda: world.client.update(KEY, message, batch)[0])()
  obs = types.Observation(message, update, side or {'proxy_data': x})

  @jax.jit
  def value(x):
    candidate = batch._replace(x=x)
    aux = world.client.update(KEY, message, candidate, term.taps)[1]
    return term.value(KEY, candidate, aux, obs)

  return value(x), value(x[:, ::-1] ** 2)


def test_running_recovers_the_statistics_of_the_batch():
  here = world()
  truth, other = seen(here, bn_statistics.bn_statistics(here))
  assert truth < 1e-4 < 0.05 < other
  # Another momentum than the network's misses them.
  wrong = bn_statistics.bn_statistics(here, momentum=0.2)
  assert seen(here, wrong)[0] > 0.05


def test_momentum_is_that_of_each_layer():
  def change(module, rngs):
    del rngs
    module.bn1.momentum = 0.02

  altered = net().edit(change)
  client = fedsgd.fedsgd(altered, TASK, train_mode=True)
  here = worlds.World(altered, TASK, client, 3)
  assert sorted(set(inspect.momenta(altered).values())) == [0.02, 0.1]
  # One part in fifty of a buffer is the batch's: so many digits are lost.
  assert seen(here, bn_statistics.bn_statistics(here))[0] < 1e-3
  wrong = bn_statistics.bn_statistics(here, momentum=0.1)
  assert seen(here, wrong)[0] > 0.05


def test_frozen_layers_do_not_tell_of_the_batch():
  part = subset.subset(net(), freeze=['bn1.*'])
  client = fedsgd.fedsgd(part, TASK, train_mode=True)
  here = worlds.World(part, TASK, client, 3)
  term = bn_statistics.bn_statistics(here)
  assert 'bn1.input' not in term.taps and len(term.taps) > 1
  truth, other = seen(here, term)
  assert truth < 1e-4 < 0.05 < other


def test_the_buffers_alone_do_not_tell_them():
  here = world()
  term = bn_statistics.bn_statistics(here, source='after')
  assert seen(here, term)[0] > 0.05
  assert term.needs == {'bn_buffers_after'}


@pytest.mark.parametrize(('name', 'mode'), [('resnet', True), ('vit', False)])
def test_estimate_is_exact_for_the_images_themselves(name, mode):
  here = world(name, mode)
  term = bn_statistics.bn_statistics(here, source='estimate')
  truth, other = seen(here, term)
  assert truth < 1e-5 < 1e-3 < other
  assert term.needs == {'proxy_data'}


def test_before_is_by_hand():
  """The buffers of the received model, for the first BatchNorm alone."""
  here = world(train_mode=False)
  term = bn_statistics.bn_statistics(here, source='before')
  variables = here.net.init(jax.random.key(1))
  x = jax.random.uniform(jax.random.key(2), (3, 4, 4, 1))
  aux = here.net.apply(variables, x, taps=term.taps)
  obs = types.Observation(
    types.ServerMessage(variables), types.Update({}, {}, jnp.int32(3)), {}
  )
  expected = 0.0
  for tap in term.taps:
    a = np.asarray(aux.taps[tap], np.float64)
    expected += np.linalg.norm(a.mean((0, 1, 2)))
    expected += np.linalg.norm(a.var((0, 1, 2)) - 1)
  found = term.value(KEY, types.Batch(x, jnp.arange(3)), aux, obs)
  np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize('momentum', [0.0, -0.1, 1.5, float('nan')])
def test_momentum_outside_its_range(momentum):
  with pytest.raises(ValueError, match=r'momentum in \(0, 1\]'):
    bn_statistics.bn_statistics(world(), momentum=momentum)


def test_running_wants_one_step_in_training_mode():
  with pytest.raises(ValueError, match='train_mode=False'):
    bn_statistics.bn_statistics(world(train_mode=False))
  client = fedavg.fedavg(
    net(), TASK, num_images=3, batch_size=1, train_mode=True
  )
  with pytest.raises(ValueError, match='local_steps=3'):
    bn_statistics.bn_statistics(world()._replace(client=client))


def test_a_network_without_the_layers():
  plain = mlp.mlp((4, 4, 1), K, widths=(3,))
  here = worlds.World(plain, TASK, fedsgd.fedsgd(plain, TASK), 1)
  for source in ('before', 'estimate'):
    with pytest.raises(ValueError, match='layers for source'):
      bn_statistics.bn_statistics(here, source=source)
