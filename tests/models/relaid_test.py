"""Attacks and checks on networks that somebody else wrote."""

import functools
import json

import equinox as eqx
from flax import linen
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import ATTACKS
from giajax.attacks.closed_form import linear_layer
from giajax.attacks.malicious import robbing_the_fed
from giajax.attacks.optimisation import inverting_gradients
from giajax.clients import fedsgd
from giajax.metrics import METRICS
from giajax.models import base
from giajax.models import from_callable
from giajax.models import from_linen
from giajax.models import from_nnx
from giajax.models import inspect
from giajax.models import precision
from giajax.models import relaid
from giajax.models import subset
from giajax.tasks import classification
from giajax.verify import base as verifiers
from giajax.verify import checkup

SPEC = base.make_spec('brought', (6, 5, 3), 4, 'cifar10')
TASK = classification.classification(4)
X = jax.random.uniform(jax.random.key(1), (8, 6, 5, 3))
Y = jnp.arange(8, dtype=jnp.int32) % 4
KEY = jax.random.key(0)


class Mlp(linen.Module):
  """Reads pixels as they lie, channels last."""

  @linen.compact
  def __call__(self, x):
    x = linen.relu(linen.Dense(12)(x.reshape(len(x), -1)))
    return linen.Dense(4)(x)


class Cnn(linen.Module):
  @linen.compact
  def __call__(self, x, train=False):
    norm = functools.partial(
      linen.BatchNorm, use_running_average=not train, momentum=0.9
    )
    x = linen.relu(norm()(linen.Conv(4, (3, 3), strides=2)(x)))
    x = linen.relu(norm()(linen.Conv(6, (3, 3))(x)))
    x = linen.relu(linen.Dense(9)(x.reshape(len(x), -1)))
    return linen.Dense(4)(x)


class Ordinary(nnx.Module):
  def __init__(self, rngs):
    self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
    self.bn = nnx.BatchNorm(4, rngs=rngs)
    self.head = nnx.Linear(4 * 30, 4, rngs=rngs)

  def __call__(self, x):
    x = nnx.relu(self.bn(self.conv(x)))
    return self.head(x.reshape(len(x), -1))


def of_equinox():
  def make(key):
    return eqx.partition(eqx.nn.MLP(90, 4, 12, 1, key=key), eqx.is_array)

  static = eqx.filter_eval_shape(make, KEY)[1]
  return from_callable.from_callable(
    lambda key: make(key)[0],
    lambda p, x: jax.vmap(eqx.combine(p, static))(
      x.transpose(0, 2, 3, 1).reshape(len(x), -1)
    ),
    SPEC,
  )


def cnn():
  return from_linen.from_linen(Cnn(), SPEC)


NETS = {
  'linen': lambda: from_linen.from_linen(Mlp(), SPEC),
  'equinox': lambda: relaid.relaid(of_equinox()).net,
}


def world(net, batch_size=1, **kwargs):
  return worlds.World(net, TASK, fedsgd.fedsgd(net, TASK, **kwargs), batch_size)


def observed(net, size, side=(), **kwargs):
  made = world(net, size, **kwargs)
  message = types.ServerMessage(net.init(KEY))
  batch = types.Batch(X[:size], Y[:size])
  update, _ = jax.jit(made.client.update)(KEY, message, batch)
  return made, types.Observation(message, update, dict(side)), batch


@pytest.mark.parametrize('way', NETS)
def test_the_first_layer_gives_its_pixels_in_their_places(way):
  made, obs, batch = observed(NETS[way](), 1)
  attack = linear_layer.linear_layer(made)
  found = jax.jit(attack.read)(attack.init(KEY, obs, {}), obs, {})
  assert METRICS['psnr'].score(found.batch.x[0], batch.x[0]) > 60
  assert found.batch.y[0] == batch.y[0]


@pytest.mark.parametrize('way', NETS)
def test_pixels_are_found_in_bfloat16(way):
  net = NETS[way]()
  path = inspect.first_linear(net)
  order = inspect.pixel_order(net, path)
  assert sorted(order.reshape(-1).tolist()) == [*range(90)]
  rounded = inspect.pixel_order(precision.in_bfloat16(net), path)
  np.testing.assert_array_equal(rounded, order)


def test_a_first_layer_that_reads_no_pixels_is_refused():
  net = from_callable.from_callable(
    lambda key: {'fc': {'kernel': jnp.ones((90, 4)), 'bias': jnp.ones(4)}},
    lambda p, x: (
      jnp.square(x).reshape(len(x), -1) @ p['fc']['kernel'] + p['fc']['bias']
    ),
    SPEC,
  )
  with pytest.raises(ValueError, match="where 'fc' reads something else"):
    linear_layer.linear_layer(world(net))


def test_variables_go_there_and_back():
  net = of_equinox()
  own = relaid.relaid(net)
  variables = net.init(KEY)
  moved = own.pack(variables)
  assert set(trees.named_leaves(moved.params)) == {
    f'layers.{i}.{leaf}' for i in range(2) for leaf in ('kernel', 'bias')
  }
  np.testing.assert_array_equal(
    moved.params['layers']['0']['kernel'], variables.params.layers[0].weight.T
  )
  back = own.unpack(moved)
  assert jax.tree.structure(back) == jax.tree.structure(variables)
  jax.tree.map(np.testing.assert_array_equal, back, variables)
  np.testing.assert_allclose(
    own.net.apply(moved, X).out, net.apply(variables, X).out, 1e-4, 1e-5
  )
  frozen = subset.subset(own.net, ['layers.1.*'])
  assert inspect.head(frozen) == 'layers.1'
  with pytest.raises(ValueError, match='take the subset of what is relaid'):
    relaid.relaid(frozen)


def test_other_names_are_refused_with_advice():
  net = of_equinox()
  words = "'layers.0.weight' is not called 'kernel'.*giajax.models.relaid"
  with pytest.raises(ValueError, match=f'^Expected a network whose.*{words}'):
    inspect.classifier(net)
  assert inspect.features(net) is None
  assert not inspect.fault(cnn())


@pytest.mark.parametrize('train_mode', [False, True])
def test_matching_by_moments_is_matching(train_mode):
  made, obs, _ = observed(cnn(), 2, {'labels': Y[:2]}, train_mode=train_mode)
  blind = made.net._replace(probe=None)
  other = world(blind, 2, train_mode=train_mode)
  losses = []
  for each in (made, other):
    attack = inverting_gradients.inverting_gradients(each, num_steps=3)
    state = attack.init(KEY, obs, attack.hparams)
    _, info = jax.jit(attack.step)(KEY, state, obs, attack.hparams)
    losses.append(info.loss)
  assert made.client.moments and not other.client.moments
  np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.parametrize('row', ['huang', 'running', 'estimate'])
@pytest.mark.parametrize(
  'make', [cnn, lambda: from_nnx.from_nnx(Ordinary, SPEC)]
)
def test_statistics_of_a_batch_are_at_their_least_at_its_images(row, make):
  side = {'labels': Y[:2], 'proxy_data': X[:2]}
  made, obs, batch = observed(make(), 2, side, train_mode=True)
  if row == 'huang':  # as if the client had started from its own statistics
    obs = obs._replace(update=obs.update._replace(stats=own_statistics(made)))
  attack = ATTACKS[row](made)
  step = jax.jit(attack.step)
  terms = []
  for start in (batch.x, X[2:4]):
    state = attack.init(KEY, obs, attack.hparams)
    state = at_images(state, start, made.net.spec)
    _, info = step(KEY, state, obs, attack.hparams)
    terms.append(float(info.terms['bn_statistics']))
  assert terms[0] < 1e-3 * terms[1]


def own_statistics(made):
  """Returns the buffers of a client whose momentum is one."""
  paths = inspect.norms(made.net)
  out = made.net.apply(
    made.net.init(KEY), X[:2], train=True, taps=[f'{p}.input' for p in paths]
  )
  return trees.nested(
    {
      f'{path}.{leaf}': getattr(out.taps[f'{path}.input'], leaf)(
        tuple(range(out.taps[f'{path}.input'].ndim - 1))
      )
      for path in paths
      for leaf in ('mean', 'var')
    }
  )


def at_images(state, x, spec):
  """Returns a state that is at some images."""
  return jax.tree.map(
    lambda a: base.normalise(x, spec) if a.shape == x.shape else a, state
  )


def test_momenta_and_variances_are_measured():
  for net, momentum in (
    (cnn(), 0.1),
    (from_nnx.from_nnx(Ordinary, SPEC), 0.01),
  ):
    facts = inspect.running(net)
    assert [*facts] == inspect.norms(net)
    for each in facts.values():
      np.testing.assert_allclose(each.momentum, momentum, rtol=1e-3)
      assert not each.unbiased


def test_a_layer_in_front_of_ordinary_layers_gives_their_images():
  net = from_nnx.from_nnx(Ordinary, SPEC)
  attack = robbing_the_fed.robbing_the_fed(world(net, 4), bins=100)
  given = attack.on_net(net)
  sent = types.ServerMessage(given.init(KEY))
  assert [*inspect.sites(given)][:3] == ['front.first', 'front.second', 'conv']
  level = jnp.linspace(0.2, 0.7, 4)[:, None, None, None]
  batch = types.Batch(X[:4] * 0.1 + level, Y[:4])
  side = {
    'proxy_data': X * 0.1 + jnp.linspace(0.1, 0.8, 8)[:, None, None, None]
  }

  @jax.jit
  def run(sent, batch, side):
    message = attack.craft(KEY, sent, side, ())
    update, _ = fedsgd.fedsgd(given, TASK).update(KEY, message, batch)
    return attack.read({}, types.Observation(message, update, side), {})

  found = run(sent, batch, side)
  psnr = METRICS['psnr'].score(found.batch.x[:, None], batch.x[None])
  assert (np.asarray(psnr).max(0) > 40).sum() >= 3


@pytest.mark.parametrize('way', ['cnn', *NETS])
def test_checks_of_received_weights_run(way):
  net = cnn() if way == 'cnn' else NETS[way]()
  view = verifiers.view(net, TASK)
  variables = net.init(KEY)
  probe = types.Batch(X, Y)
  honest = checkup.check(view, types.ServerMessage(variables), probe)
  assert {'architecture', 'scale', 'isolation'} <= {*honest.ran}
  path = inspect.first_linear(net) if way != 'cnn' else inspect.classifier(net)
  leaves = {
    f'{path}.kernel': 1e4
    * trees.named_leaves(variables.params)[f'{path}.kernel']
  }
  crafted = variables._replace(params=trees.replaced(variables.params, leaves))
  found = checkup.check(
    view, types.ServerMessage(crafted), probe, only=['scale']
  )
  assert found.flagged == ['scale'], json.dumps(
    found.verdicts['scale'].evidence
  )
