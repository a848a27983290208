"""What every row of PRIORS, RULES, CLIENTS and DEFENSES promises."""

import functools

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import threat
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks.parts import labels
from giajax.clients import CLIENTS
from giajax.clients import fedsgd
from giajax.data import DATASETS
from giajax.defenses import base as defenses
from giajax.defenses import DEFENSES
from giajax.models import base as models
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models.classification import mlp
from giajax.models.parts import norms
from giajax.priors import PRIORS
from giajax.tasks import classification
from giajax.tasks import TASKS
from tests import detectors

K = 4
TASK = classification.classification(K)
# Keyword arguments with which a row that has required ones is made.
CLIENT_KWARGS = {
  'fedavg': {'num_images': 3, 'learning_rate': 0.3},
  'fedsgd': {},
}
DEFENSE_KWARGS = {
  'none': {},
  'augmentation': {},
  'gaussian_noise': {'scale': 0.1},
  'laplace_noise': {'scale': 0.1},
  'mixup': {'num_classes': K},
  'per_example_clipping': {'clip': 0.5, 'noise_multiplier': 0.1},
  'precode': {'size': 5},
  'pruning': {'keep': 0.3},
  'quantization': {'bits': 2},
  'soteria': {'fraction': 0.3},
}


class Normed(nnx.Module):
  """A convolution, a BatchNorm and a classifier."""

  def __init__(self, rngs):
    self.conv = layers.Conv(3, 2, 3, 1, 1, rngs=rngs)
    self.bn = norms.BatchNorm(2, rngs=rngs)
    self.fc = layers.Linear(50, K, rngs=rngs)

  def __call__(self, x):
    return self.fc(layers.flatten(jnp.tanh(self.bn(self.conv(x)))))


NETS = {
  'mlp': functools.partial(mlp.mlp, (4, 4, 1), K, widths=(6,)),
  'normed': lambda: from_nnx.from_nnx(
    Normed, models.make_spec('normed', (5, 5, 3), K, 'half')
  ),
}


@functools.cache
def sample(net_name, batch_size=3):
  """Returns a network, its variables and a batch."""
  net = NETS[net_name]()
  x = jax.random.uniform(jax.random.key(5), (batch_size, *net.spec.image_shape))
  y = jnp.arange(batch_size, dtype=jnp.int32) % K
  return net, net.init(jax.random.key(0)), types.Batch(x, y)


def shapes(tree):
  return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


# Priors.


@pytest.fixture(scope='module', params=sorted(PRIORS))
def prior(request):
  net, variables, batch = sample('normed')
  client = fedsgd.fedsgd(net, TASK, train_mode=True)
  term = PRIORS[request.param](worlds.World(net, TASK, client, 3))
  assert term.needs <= set(threat.GRANTS)
  key, message = jax.random.key(0), types.ServerMessage(variables)
  update = client.update(key, message, batch)[0]
  side = threat.side(term.needs, batch, K, lambda: batch.x[::-1])
  obs = types.Observation(*threat.observed(term.needs, message, update), side)

  @jax.jit
  @jax.value_and_grad
  def value(x):
    candidate = batch._replace(x=x)
    aux = client.update(key, message, candidate, term.taps)[1]
    return term.value(key, candidate, aux, obs)

  if not term.group:
    return value
  among = jax.vmap(value, axis_name=worlds.RESTARTS)
  return lambda x: jax.tree.map(lambda v: v[0], among(x[None]))


@pytest.mark.parametrize('level', [0.0, 0.4, 1.0, None])
def test_prior_is_a_finite_scalar_with_finite_derivative(prior, level):
  shape = (3, 5, 5, 3)
  if level is None:
    x = jax.random.uniform(jax.random.key(0), shape)
  else:
    x = jnp.full(shape, level)
  value, slope = prior(x)
  assert value.shape == () and value.dtype == jnp.float32
  assert np.isfinite(value) and value >= 0
  assert slope.shape == x.shape and np.isfinite(slope).all()


# Label rules.


def _detected():
  """Returns a rule of a detector, and what it sees."""
  net = detectors.net(num_classes=K)
  task = TASKS['detection'](K, image_shape=net.spec.image_shape)
  client = fedsgd.fedsgd(net, task)
  rule = labels.RULES['present_classes'](worlds.World(net, task, client, 1))
  batch = DATASETS['shapes'](size=32, count=1).take([0])
  message = types.ServerMessage(net.init(jax.random.key(0)))
  update = jax.jit(client.update)(jax.random.key(0), message, batch)[0]
  return rule.infer, types.Observation(message, update, {})


# Rules of other tasks, and what they see.
_OTHER_RULES = {'present_classes': _detected}


@pytest.fixture(
  scope='module', params=sorted(labels.RULES.keys() - _OTHER_RULES.keys())
)
def ruled(request):
  b = 1 if request.param == 'idlg' else 3
  net, variables, batch = sample('mlp', b)
  client = fedsgd.fedsgd(net, TASK)
  rule = labels.RULES[request.param](worlds.World(net, TASK, client, b))
  message = types.ServerMessage(variables)
  update = jax.jit(client.update)(jax.random.key(0), message, batch)[0]
  side = threat.side(rule.needs, batch, K, lambda: batch.x)
  return rule.infer, types.Observation(message, update, side), b


def test_rule_gives_ascending_classes(ruled):
  rule, obs, b = ruled
  found = rule(jax.random.key(0), obs)
  assert found.shape == (b,) and found.dtype == jnp.int32
  assert (np.diff(found) >= 0).all()
  assert found.min() >= 0 and found.max() < K


def test_rule_under_jit_and_vmap(ruled):
  rule, obs, _ = ruled
  keys = jax.random.split(jax.random.key(0), 2)
  together = jax.jit(jax.vmap(rule, (0, None)))(keys, obs)
  for key, found in zip(keys, together):
    np.testing.assert_array_equal(found, rule(key, obs))


@pytest.mark.parametrize('name', sorted(_OTHER_RULES))
def test_rule_of_another_task_under_jit_and_vmap(name):
  rule, obs = _OTHER_RULES[name]()
  keys = jax.random.split(jax.random.key(0), 2)
  together = jax.jit(jax.vmap(rule, (0, None)))(keys, obs)
  for i, key in enumerate(keys):
    jax.tree.map(
      lambda a, b, i=i: np.testing.assert_array_equal(a[i], b),
      together,
      rule(key, obs),
    )


# Clients.


@functools.cache
def updates(name, net_name, train_mode):
  """Returns one row's update, its message and batch, and the client."""
  net, variables, batch = sample(net_name)
  client = CLIENTS[name](
    net, TASK, train_mode=train_mode, **CLIENT_KWARGS[name]
  )
  message = types.ServerMessage(variables)
  update, output = jax.jit(client.update)(jax.random.key(0), message, batch)
  return client, message, batch, update, output


_CLIENTS = [
  (name, net, mode)
  for name in sorted(CLIENTS)
  for net in NETS
  for mode in (False, True)
  if net == 'normed' or not mode
]


@pytest.mark.parametrize(('name', 'net', 'mode'), _CLIENTS)
def test_update_is_like_the_parameters(name, net, mode):
  client, message, batch, update, output = updates(name, net, mode)
  assert shapes(update.delta) == shapes(message.variables.params)
  assert shapes(update.stats) == shapes(message.variables.stats)
  assert update.size.dtype == jnp.int32 and int(update.size) == len(batch.x)
  assert output.out.shape == (len(batch.x), K)
  assert client.train_mode is mode and client.local_steps >= 1
  # A training pass moves the buffers, an inference pass does not.
  same = jax.tree.map(np.array_equal, update.stats, message.variables.stats)
  assert all(jax.tree.leaves(same)) is not (mode and net == 'normed')


@pytest.mark.parametrize(('name', 'net', 'mode'), _CLIENTS)
def test_one_step_reads_as_the_gradient(name, net, mode):
  client, _, _, update, _ = updates(name, net, mode)
  gradient = updates('fedsgd', net, mode)[3].delta
  assert client.local_steps == 1
  jax.tree.map(
    lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-3, atol=1e-6),
    client.as_gradient(update.delta),
    gradient,
  )


@pytest.mark.parametrize(('name', 'net', 'mode'), _CLIENTS)
def test_moments_equal_the_explicit_update(name, net, mode):
  client, message, batch, update, output = updates(name, net, mode)
  if client.moments is None:
    pytest.skip('no such form')
  target = jax.tree.map(
    lambda leaf: leaf + jax.random.normal(jax.random.key(1), leaf.shape),
    update.delta,
  )
  found, aux = jax.jit(client.moments)(
    jax.random.key(0), message, batch, target
  )
  g, t = trees.named_leaves(update.delta), trees.named_leaves(target)
  size = {n: float(jnp.linalg.norm(g[n])) for n in g}
  for n in g:
    norm = float(jnp.linalg.norm(t[n]))
    np.testing.assert_allclose(found.target[n], norm**2, rtol=1e-4)
    # The bias before a BatchNorm has no gradient: an absolute error for it.
    np.testing.assert_allclose(
      found.squared[n], size[n] ** 2, rtol=1e-4, atol=1e-10
    )
    np.testing.assert_allclose(
      found.dot[n],
      jnp.vdot(g[n], t[n]),
      rtol=1e-4,
      atol=1e-4 * size[n] * norm + 1e-6,
    )
  np.testing.assert_allclose(aux.out, output.out, rtol=1e-4, atol=1e-5)


# Defenses.


@pytest.fixture(params=sorted(DEFENSES))
def defense(request):
  return DEFENSES[request.param](**DEFENSE_KWARGS[request.param])


def test_every_defense_has_arguments():
  assert set(DEFENSE_KWARGS) == set(DEFENSES)


def test_defended_update_keeps_its_form(defense):
  bare, _, batch = sample('mlp')
  net, key = defense.on_net(bare), jax.random.key(0)
  assert net.spec == bare.spec
  client, message = fedsgd.fedsgd(net, TASK), types.ServerMessage(net.init(key))
  changed = defense.on_batch(key, batch)
  assert shapes(changed.x) == shapes(batch.x)
  assert changed.x.min() >= 0 and changed.x.max() <= 1
  plain = jax.eval_shape(client.update, key, message, changed)
  guarded = defenses.protect(client, defense)
  found = jax.jit(guarded.update)(key, message, batch)
  assert shapes(found) == shapes(plain)
  assert guarded.train_mode is client.train_mode
  again = guarded.update(key, message, batch)
  jax.tree.map(
    lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-5, atol=1e-6),
    found,
    again,
  )
  believed = defense.on_belief(client)
  surrogate = jax.eval_shape(believed.update, key, message, changed)
  assert shapes(surrogate) == shapes(plain)
  # What cannot be had of the defended update is not offered.
  assert guarded.moments is None
