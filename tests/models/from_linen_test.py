"""Tests of giajax.models.from_linen: which pass a module is told to make."""

import functools

from flax import linen
import jax
import numpy as np
import pytest

from giajax.models import base
from giajax.models import from_linen
from giajax.models import inspect

SPEC = base.make_spec('brought', (6, 5, 3), 4, 'half')
X = np.random.default_rng(0).random((3, 6, 5, 3), np.float32)
KEY = jax.random.key(0)


def layers(x, training, rate=0.5, normed=True):
  """A convolution, BatchNorm, dropout and a linear layer."""
  x = linen.Conv(2, (3, 3))(x)
  if normed:
    x = linen.BatchNorm(use_running_average=not training, momentum=0.9)(x)
  x = linen.Dropout(rate, deterministic=not training)(x)
  return linen.Dense(4)(x.reshape(x.shape[0], -1))


class Train(linen.Module):
  @linen.compact
  def __call__(self, x, train=False):
    return layers(x, train)


class Training(linen.Module):
  @linen.compact
  def __call__(self, x, *, training):
    return layers(x, training)


class IsTraining(linen.Module):
  @linen.compact
  def __call__(self, x, is_training=True):
    return layers(x, is_training)


class Deterministic(linen.Module):
  @linen.compact
  def __call__(self, x, deterministic=True):
    return layers(x, not deterministic)


class UseRunningAverage(linen.Module):
  @linen.compact
  def __call__(self, x, use_running_average: bool):
    return layers(x, not use_running_average)


class Two(linen.Module):
  """Two keywords, of which each switches one layer."""

  @linen.compact
  def __call__(self, x, deterministic=True, train=False):
    x = linen.Dropout(0.5, deterministic=deterministic)(x)
    return layers(x, train, rate=0.0)


class Unnamed(linen.Module):
  """Takes the keyword, but does not name it."""

  @linen.compact
  def __call__(self, x, **kwargs):
    return layers(x, kwargs['train'])


MODULES = {
  'train': Train,
  'training': Training,
  'is_training': IsTraining,
  'deterministic': Deterministic,
  'use_running_average': UseRunningAverage,
  'two keywords': Two,
  'unnamed': Unnamed,
}


@functools.cache
def network(name):
  kwargs = {'train': False} if name == 'unnamed' else {}
  net = from_linen.from_linen(MODULES[name](), SPEC, **kwargs)
  return net, net.init(KEY)


@pytest.mark.parametrize('name', sorted(MODULES))
def test_an_inference_pass_draws_nothing_and_moves_nothing(name):
  net, variables = network(name)
  output = net.apply(variables, X, key=KEY)
  np.testing.assert_array_equal(output.out, net.apply(variables, X).out)
  jax.tree.map(np.testing.assert_array_equal, output.stats, variables.stats)
  assert not inspect.draws(net, train=False)


@pytest.mark.parametrize('name', sorted(MODULES))
def test_a_training_pass_drops_and_moves_the_statistics(name):
  net, variables = network(name)
  apply = functools.partial(jax.jit(net.apply, static_argnames='train'))
  one, again, other = (
    apply(variables, X, train=True, key=jax.random.key(i)) for i in (0, 0, 1)
  )
  np.testing.assert_array_equal(one.out, again.out)
  assert np.abs(one.out - other.out).max() > 0.1
  moved = jax.tree.map(lambda a, b: np.any(a != b), one.stats, variables.stats)
  assert moved and all(jax.tree.leaves(moved))
  assert jax.tree.structure(one.stats) == jax.tree.structure(variables.stats)
  assert inspect.draws(net, train=True)
  with pytest.raises(ValueError, match='Expected a key for a training pass'):
    net.apply(variables, X, train=True)


def test_an_inference_pass_is_the_module_itself():
  net, variables = network('deterministic')
  raw = {'params': variables.params, 'batch_stats': variables.stats}
  np.testing.assert_allclose(
    net.apply(variables, X).out,
    Deterministic().apply(raw, (X - 0.5) / 0.5),
    rtol=1e-5,
    atol=1e-6,
  )


def test_convolutions_are_lowered_as_ours():
  net, variables = network('train')
  made = jax.make_jaxpr(lambda x: net.apply(variables, x).out)(X)
  assert 'dot_general' in str(made)
  assert 'conv_general_dilated' not in str(made)


class AlwaysDrops(linen.Module):
  @linen.compact
  def __call__(self, x):
    return layers(x, True, normed=False)


class AlwaysNormalises(linen.Module):
  """Its keyword does not reach the BatchNorm."""

  @linen.compact
  def __call__(self, x, train=False):
    x = linen.BatchNorm(use_running_average=False)(x)
    return layers(x, train, normed=False)


class NeverNormalises(linen.Module):
  @linen.compact
  def __call__(self, x, deterministic=True):
    x = linen.BatchNorm(use_running_average=True)(x)
    return layers(x, not deterministic, normed=False)


class StatesItsMode(linen.Module):
  """Told once, where it is made."""

  dropping: bool = True

  @linen.compact
  def __call__(self, x):
    return layers(x, self.dropping)


@pytest.mark.parametrize(
  ('module', 'message'),
  [
    (AlwaysDrops(), 'none of them and draws random numbers in an inference'),
    (AlwaysNormalises(), 'train only and moves running statistics'),
    (NeverNormalises(), 'deterministic only and leaves running statistics'),
    (StatesItsMode(), 'none of them and draws random numbers in an inference'),
    (StatesItsMode(False), 'none of them and leaves running statistics'),
    (Unnamed(), 'train'),
  ],
  ids=['drops', 'normalises', 'never', 'on', 'off', 'unnamed'],
)
def test_a_module_whose_mode_cannot_be_switched_is_refused(module, message):
  error = KeyError if isinstance(module, Unnamed) else ValueError
  with pytest.raises(error, match=message):
    from_linen.from_linen(module, SPEC)


class Noisy(linen.Module):
  """Draws from a stream of its own."""

  @linen.compact
  def __call__(self, x, train=False):
    if train:
      x = x + jax.random.normal(self.make_rng('noise'), x.shape)
    return layers(x, train, rate=0.0)


def test_a_stream_of_another_name_is_fed():
  net = from_linen.from_linen(Noisy(), SPEC)
  variables = net.init(KEY)
  one, other = (
    net.apply(variables, X, train=True, key=jax.random.key(i)).out
    for i in range(2)
  )
  assert np.abs(one - other).max() > 0.1


class Plain(linen.Module):
  """A linear layer."""

  @linen.compact
  def __call__(self, x):
    return linen.Dense(4)(x.reshape(x.shape[0], -1))


def test_without_statistics_and_draws_no_keyword_is_needed():
  net = from_linen.from_linen(Plain(), SPEC)
  variables = net.init(KEY)
  assert variables.stats == {}
  output = jax.jit(net.apply)(variables, X)
  assert output.stats == {} and output.out.shape == (3, 4)
  trained = net.apply(variables, X, train=True)
  np.testing.assert_allclose(trained.out, output.out, rtol=1e-5, atol=1e-6)
  tapped = net.apply(variables, X, taps=('Dense_0',)).taps['Dense_0']
  np.testing.assert_allclose(tapped, output.out, rtol=1e-5, atol=1e-6)
  with pytest.raises(ValueError, match=r"brought; got taps=\['Dense_1'\]"):
    net.apply(variables, X, taps=('Dense_1',))


class Counts(linen.Module):
  @linen.compact
  def __call__(self, x):
    self.variable('count', 'passes', lambda: np.float32(0))
    return linen.Dense(4)(x.reshape(x.shape[0], -1))


def test_further_collections_are_refused():
  with pytest.raises(ValueError, match=r"got \['count', 'params'\]"):
    from_linen.from_linen(Counts(), SPEC)
