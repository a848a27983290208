"""Ordinary flax.nnx modules as Nets: both modes, keys and convolutions."""

import functools

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.models import base
from giajax.models import from_nnx
from giajax.models import inspect
from giajax.models import layers
from giajax.models import subset

SPEC = base.make_spec('brought', (6, 5, 3), 4, 'half')
X = np.random.default_rng(0).random((3, 6, 5, 3), np.float32)
KEY = jax.random.key(0)


class Ordinary(nnx.Module):
  """Every layer whose passes differ, and those that have none."""

  def __init__(self, rngs, rate=0.5):
    self.conv = nnx.Conv(3, 4, (3, 3), strides=2, rngs=rngs)
    self.bn = nnx.BatchNorm(4, momentum=0.75, rngs=rngs)
    self.norm = nnx.LayerNorm(4, rngs=rngs)
    self.attention = nnx.MultiHeadAttention(
      2, 4, dropout_rate=rate, decode=False, rngs=rngs
    )
    self.dropout = nnx.Dropout(rate, rngs=rngs)
    self.head = nnx.Linear(4, 4, rngs=rngs)

  def __call__(self, x):
    x = jax.nn.gelu(self.bn(self.conv(x)))
    x = x.reshape(len(x), -1, 4)
    x = x + self.attention(self.norm(x))
    return self.head(self.dropout(x.mean(1)))


@functools.cache
def network(rate=0.5):
  net = from_nnx.from_nnx(lambda rngs: Ordinary(rngs, rate), SPEC)
  return net, net.init(KEY)


def module_of(variables, rate=0.5):
  """Returns the module with weights that do not pass through giajax."""
  module = Ordinary(nnx.Rngs(0), rate)
  for tree, kind in (
    (variables.params, nnx.Param),
    (variables.stats, nnx.BatchStat),
  ):
    state = nnx.state(module, kind)
    pure = nnx.to_pure_dict(state)
    jax.tree.map(
      lambda a, b: np.testing.assert_equal(a.shape, b.shape), pure, tree
    )
    nnx.replace_by_pure_dict(state, tree)
    nnx.update(module, state)
  return module


def normalised(x):
  return (x - 0.5) / 0.5


def test_an_inference_pass_is_the_module_itself():
  net, variables = network()
  module = module_of(variables)
  module.eval()
  out = net.apply(variables, X)
  np.testing.assert_allclose(out.out, module(normalised(X)), atol=1e-6)
  jax.tree.map(np.testing.assert_array_equal, out.stats, variables.stats)
  np.testing.assert_allclose(net.apply(variables, X[:1]).out, out.out[:1], 1e-5)


def test_a_training_pass_is_the_module_itself():
  net, variables = network(0.0)
  module = module_of(variables, 0.0)
  module.train()
  out = net.apply(variables, X, train=True, key=KEY)
  np.testing.assert_allclose(out.out, module(normalised(X)), atol=1e-5)
  stats = nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5), out.stats, stats
  )
  assert np.abs(stats['bn']['var'] - variables.stats['bn']['var']).max() > 0.01


def test_a_training_pass_draws_from_its_key():
  net, variables = network()
  passes = [
    net.apply(variables, X, train=True, key=jax.random.key(seed)).out
    for seed in (1, 1, 2)
  ]
  np.testing.assert_array_equal(passes[0], passes[1])
  assert np.abs(passes[0] - passes[2]).max() > 1e-3
  with pytest.raises(
    ValueError, match=r"key for .* 'attention'.* got key=None"
  ):
    net.apply(variables, X, train=True)


def test_every_layer_draws_numbers_of_its_own():
  class Two(nnx.Module):
    def __init__(self, rngs):
      self.one = nnx.Dropout(0.5, rngs=rngs)
      self.two = nnx.Dropout(0.5, rngs=rngs)
      self.head = nnx.Linear(90, 4, rngs=rngs)

    def __call__(self, x):
      ones = jnp.ones((len(x), 90))
      same = (self.one(ones) == self.two(ones)).mean()
      return self.head(ones) * 0 + same

  net = from_nnx.from_nnx(Two, SPEC)
  same = net.apply(net.init(KEY), X, train=True, key=KEY).out
  assert 0.3 < same[0, 0] < 0.7


def test_a_layer_that_is_not_trained_keeps_its_statistics():
  net, variables = network(0.0)
  frozen = subset.subset(net, freeze=['bn.*']).init(KEY)
  out = net.apply(frozen, X, train=True, key=KEY)
  jax.tree.map(np.testing.assert_array_equal, out.stats, variables.stats)
  expected = net.apply(variables, X).out
  np.testing.assert_allclose(out.out, expected, atol=1e-6)


def test_second_derivatives_go_through_our_convolutions():
  net, variables = network()

  def loss(x):
    def slope(params):
      own = variables._replace(params=params)
      return net.apply(own, x, train=True, key=KEY).out.var()

    return sum(
      jnp.square(g).sum()
      for g in jax.tree.leaves(jax.grad(slope)(variables.params))
    )

  found = jax.vmap(jax.grad(loss))(jnp.stack([X, X / 2]))
  assert np.isfinite(found).all() and np.abs(found).max() > 0
  made = str(jax.make_jaxpr(jax.grad(loss))(X))
  assert 'conv_general_dilated' not in made


def test_layers_of_both_kinds_in_one_module():
  class Mixed(nnx.Module):
    def __init__(self, rngs):
      self.conv = layers.Conv(3, 4, 3, rngs=rngs)
      self.bn = nnx.BatchNorm(4, rngs=rngs)
      self.head = layers.Linear(4, 4, rngs=rngs)

    def __call__(self, x):
      return self.head(self.bn(self.conv(x)).mean((1, 2)))

  net = from_nnx.from_nnx(Mixed, SPEC)
  variables = net.init(KEY)
  out = net.apply(variables, X, train=True, taps=('conv',))
  assert out.taps['conv'].shape == (3, 4, 3, 4)
  assert np.abs(out.stats['bn']['var'] - 1).max() > 1e-4
  assert [*inspect.sites(net)] == ['conv', 'bn', 'head']


class Rematerialised(Ordinary):
  """Its inner passes are traced apart."""

  def __call__(self, x):
    def block(module, x):
      return module.dropout(jax.nn.gelu(module.bn(module.conv(x))))

    return self.head(nnx.remat(block)(self, x).mean((1, 2)))


def test_blocks_that_are_computed_again_keep_to_the_mode():
  net = from_nnx.from_nnx(Rematerialised, SPEC)
  variables = net.init(KEY)
  out = net.apply(variables, X)
  jax.tree.map(np.testing.assert_array_equal, out.stats, variables.stats)
  moved = net.apply(variables, X, train=True, key=KEY).stats['bn']['var']
  assert np.abs(moved - variables.stats['bn']['var']).max() > 0.01


def test_stacked_layers_have_a_stream_each():
  class Stacked(nnx.Module):
    def __init__(self, rngs):
      @nnx.split_rngs(splits=3)
      @nnx.vmap
      def make(rngs):
        return nnx.Dropout(0.5, rngs=rngs)

      self.drops = make(rngs)
      self.head = nnx.Linear(90, 4, rngs=rngs)

    def __call__(self, x):
      @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
      def through(layer, x):
        return layer(x)

      return self.head(through(self.drops, x.reshape(len(x), -1)))

  net = from_nnx.from_nnx(Stacked, SPEC)
  variables = net.init(KEY)
  still = net.apply(variables, X).out
  moved = net.apply(variables, X, train=True, key=KEY).out
  assert np.abs(still - moved).max() > 0.1


class AlwaysNormalises(Ordinary):
  def __call__(self, x):
    x = self.bn(self.conv(x), use_running_average=False)
    return self.head(x.mean((1, 2)))


class NeverNormalises(Ordinary):
  def __call__(self, x):
    x = self.bn(self.conv(x), use_running_average=True)
    return self.head(x.mean((1, 2)))


class AlwaysDrops(Ordinary):
  def __call__(self, x):
    x = self.dropout(self.bn(self.conv(x)), deterministic=False)
    return self.head(x.mean((1, 2)))


class Keeps(Ordinary):
  def __init__(self, rngs):
    super().__init__(rngs)
    self.seen = nnx.Cache(jnp.zeros(3))


@pytest.mark.parametrize(
  ('module', 'words'),
  [
    (AlwaysNormalises, 'moves running statistics in an inference pass'),
    (NeverNormalises, 'leaves running statistics in a training pass'),
    (AlwaysDrops, 'draws random numbers in an inference pass'),
    (Keeps, 'keeps .*; got Cache seen in brought; bring it by from_callable'),
  ],
)
def test_a_module_whose_passes_cannot_be_told_apart_is_refused(module, words):
  with pytest.raises(ValueError, match=f'^Expected .*{words}') as error:
    from_nnx.from_nnx(module, SPEC)
  assert '\n' not in str(error.value)
