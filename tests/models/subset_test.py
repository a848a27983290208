"""An update that covers a part of the parameters."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import clients
from giajax import tasks
from giajax import trees
from giajax import types
from giajax.models import base
from giajax.models import convert
from giajax.models import from_callable
from giajax.models import from_nnx
from giajax.models import inspect
from giajax.models import layers
from giajax.models import subset
from giajax.models.parts import norms

TASK = tasks.TASKS['classification'](num_classes=3)


class Tiny(nnx.Module):
  """A convolution, a BatchNorm and a linear layer with an adapter."""

  def __init__(self, rank, rngs):
    self.conv = layers.Conv(1, 2, 3, 1, 1, rngs=rngs)
    self.bn = norms.BatchNorm(2, rngs=rngs)
    self.fc = layers.Linear(32, 3, rank=rank, rngs=rngs)

  def __call__(self, x):
    """Maps [B, 4, 4, 1] to [B, 3]."""
    return self.fc(layers.flatten(jnp.tanh(self.bn(self.conv(x)))))


def tiny(rank=2):
  spec = base.make_spec('tiny', (4, 4, 1), 3, 'none')
  return from_nnx.from_nnx(lambda rngs: Tiny(rank, rngs), spec)


@pytest.fixture(scope='module')
def batch():
  x = jax.random.uniform(jax.random.key(0), (2, 4, 4, 1))
  return types.Batch(x, jnp.array([0, 2]))


def update(net, batch, train=False):
  client = clients.CLIENTS['fedsgd'](net, TASK, train_mode=train)
  message = types.ServerMessage(net.init(jax.random.key(1)))
  found, _ = client.update(jax.random.key(2), message, batch)
  matched, _ = client.moments(jax.random.key(2), message, batch, found.delta)
  return found, matched


def test_the_update_is_that_part_of_the_whole(batch):
  whole = trees.named_leaves(update(tiny(), batch)[0].delta)
  found, matched = update(
    subset.subset(tiny(), ['fc.*', 'bn.*'], ['*bias']), batch
  )
  part = trees.named_leaves(found.delta)
  assert set(part) == {
    'bn.scale',
    'fc.kernel',
    'fc.lora_a.kernel',
    'fc.lora_b.kernel',
  }
  for name, value in part.items():
    np.testing.assert_allclose(value, whole[name], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(
      matched.squared[name], jnp.vdot(value, value), rtol=1e-5, atol=1e-9
    )


def test_a_part_of_a_part_keeps_what_is_frozen():
  part = subset.subset(tiny(), freeze=['bn.*'])
  less = subset.subset(part, freeze=['conv.*'])
  both = subset.subset(tiny(), freeze=['bn.*', 'conv.*'])
  jax.tree.map(
    np.testing.assert_array_equal,
    less.init(jax.random.key(0)),
    both.init(jax.random.key(0)),
  )


def test_adapters_alone(batch):
  net = subset.subset(tiny(), ['*.lora_?.*'])
  found, matched = update(net, batch)
  leaves = trees.named_leaves(found.delta)
  shapes = {name: value.shape for name, value in leaves.items()}
  assert shapes == {'fc.lora_a.kernel': (32, 2), 'fc.lora_b.kernel': (2, 3)}
  assert matched.dot.keys() == shapes.keys()
  # The second factor starts at zero, so that the first has no gradient yet.
  assert not np.any(leaves['fc.lora_a.kernel'])
  assert np.any(leaves['fc.lora_b.kernel'])


@pytest.mark.parametrize('freezes', [['bn.*'], ['bn.bias'], []])
def test_only_a_wholly_frozen_batch_norm_keeps_its_statistics(freezes, batch):
  net = subset.subset(tiny(), ['*'], freezes)
  before = net.init(jax.random.key(1)).stats
  after = update(net, batch, train=True)[0].stats
  same = [
    np.array_equal(a, b)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after))
  ]
  assert all(same) == (freezes == ['bn.*'])


def test_weights_are_read_whole_and_adapters_stay_fresh(batch, tmp_path):
  plain = tiny(rank=0)
  variables = plain.init(jax.random.key(3))
  path = tmp_path / 'weights.npz'
  np.savez(path, **convert.to_state_dict(variables))
  net = subset.subset(tiny(), ['*.lora_?.*'])
  fresh = net.init(jax.random.key(4))
  with pytest.raises(ValueError, match=r'missing: fc\.lora_a'):
    convert.load(path, net)
  loaded = convert.load(path, net, adapters=fresh)
  assert jax.tree.structure(loaded) == jax.tree.structure(fresh)
  np.testing.assert_array_equal(
    net.apply(loaded, batch.x).out, plain.apply(variables, batch.x).out
  )
  jax.tree.map(np.testing.assert_array_equal, loaded.params, fresh.params)
  np.savez(path, **convert.to_state_dict(loaded))
  again = convert.load(path, net)
  jax.tree.map(np.testing.assert_array_equal, again, loaded)


def test_networks_that_users_bring():
  spec = base.make_spec('brought', (2, 2, 1), 3, 'none')
  net = from_callable.from_callable(
    lambda key: {'a': {'w': jnp.ones((4, 3))}, 'b': jnp.ones(3)},
    lambda p, x: x.reshape(-1, 4) @ p['a']['w'] + p['b'],
    spec,
  )
  part = subset.subset(net, ['a.*'])
  variables = part.init(jax.random.key(0))
  assert set(trees.named_leaves(variables.params)) == {'a.w'}
  np.testing.assert_array_equal(
    part.apply(variables, jnp.ones((1, 2, 2, 1))).out, [[5, 5, 5]]
  )


@pytest.mark.parametrize(
  ('include', 'freeze', 'message'),
  [
    (['fd.*'], [], r"got 'fd\.\*'; its layers are bn, conv, fc"),
    (['fc.*'], ['classifier*'], 'classifier'),
    (['fc.*'], ['fc.*'], 'something to train'),
  ],
)
def test_mistakes(include, freeze, message):
  with pytest.raises(ValueError, match=message):
    subset.subset(tiny(), include, freeze)


def test_a_frozen_classifier_tells_no_labels():
  net = subset.subset(tiny(), ['conv.*'])
  with pytest.raises(ValueError, match='covers the classifier'):
    inspect.head(net)
  assert inspect.features(net) == 'fc.input'  # it is read all the same
  assert inspect.features(net._replace(probe=None)) is None
