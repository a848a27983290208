"""Nets of functions with a state: by hand, of Haiku and of Equinox."""

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees
from giajax.models import base
from giajax.models import from_stateful

SPEC = base.make_spec('brought', (6, 5, 3), 4, 'half')
X = np.random.default_rng(0).random((3, 6, 5, 3), np.float32)
IMAGES = (X - 0.5) / 0.5
KEY = jax.random.key(0)
M = 0.75  # the weight of what was before in running statistics


def by_hand():
  """Dropout of channels and a running mean."""

  def init(key):
    weights = jax.random.normal(key, (3, 4))
    return {'w': weights}, (jnp.zeros(3), {'count': jnp.zeros((), jnp.int32)})

  def apply(params, state, x, *, train, key):
    mean, count = state
    x = x.mean((1, 2))
    if train:
      x = x * jax.random.bernoulli(key, 0.5, x.shape)
      batch = x.mean(0)
      state = M * mean + (1 - M) * batch, {'count': count['count'] + 1}
      mean = batch
    return (x - mean) @ params['w'], state

  return init, apply


def of_haiku():
  def forward(x, train):
    x = hk.Conv2D(4, 3, stride=2)(x)
    x = hk.BatchNorm(True, True, decay_rate=M)(x, train)
    x = hk.Flatten()(jax.nn.relu(x))
    x = hk.dropout(hk.next_rng_key(), 0.5, x) if train else x
    return hk.Linear(4)(x)

  pair = hk.transform_with_state(forward)

  def init(key):
    return pair.init(key, jnp.zeros((1, 6, 5, 3)), True)

  def apply(params, state, x, *, train, key):
    return pair.apply(params, state, key, x, train)

  return init, apply


class Batched(eqx.Module):
  conv: eqx.nn.Conv2d
  norm: eqx.nn.BatchNorm
  dropout: eqx.nn.Dropout
  head: eqx.nn.Linear

  def __init__(self, key):
    one, two = jax.random.split(key)
    self.conv = eqx.nn.Conv2d(3, 4, 3, stride=2, key=one)
    self.norm = eqx.nn.BatchNorm(4, 'batch', momentum=M, mode='batch')
    self.dropout = eqx.nn.Dropout(0.5)
    self.head = eqx.nn.Linear(16, 4, key=two)

  def __call__(self, x, state, key):
    x, state = self.norm(self.conv(x), state)
    x = self.dropout(jax.nn.relu(x).ravel(), key=key)
    return self.head(x), state


def of_equinox():
  def make(key):
    model, state = eqx.nn.make_with_state(Batched)(key)
    return (*eqx.partition(model, eqx.is_inexact_array), state)

  static = eqx.filter_eval_shape(make, KEY)[1]

  def init(key):
    params, _, state = make(key)
    return params, state

  def apply(params, state, x, *, train, key):
    model = eqx.combine(params, static)
    model = model if train else eqx.nn.inference_mode(model)
    keys = jax.random.split(KEY if key is None else key, len(x))
    passed = jax.vmap(model, (0, None, 0), (0, None), axis_name='batch')
    return passed(x.transpose(0, 3, 1, 2), state, keys)

  return init, apply


WAYS = {f.__name__: f for f in (by_hand, of_haiku, of_equinox)}


@pytest.fixture(scope='module', params=WAYS)
def way(request):
  init, apply = WAYS[request.param]()
  net = from_stateful.from_stateful(init, apply, SPEC)
  return net, net.init(KEY), init, apply


def leaves(tree):
  return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_passes_are_those_of_the_function(way):
  net, variables, init, apply = way
  params, state = init(KEY)
  for train in (False, True):
    key = jax.random.key(3) if train else None
    found = net.apply(variables, X, train=train, key=key)
    out, after = apply(params, state, IMAGES, train=train, key=key)
    np.testing.assert_allclose(found.out, out, rtol=1e-4, atol=1e-5)
    for one, other in zip(leaves(found.stats), leaves(after), strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
  names = trees.named_leaves(variables.stats)
  assert names.keys() == trees.named_leaves(found.stats).keys()


def test_modes_differ_as_they_should(way):
  net, variables, _, _ = way
  out = net.apply(variables, X)
  alone = net.apply(variables, X[:1])
  np.testing.assert_allclose(alone.out, out.out[:1], rtol=1e-4, atol=1e-5)
  for one, other in zip(leaves(out.stats), leaves(variables.stats)):
    np.testing.assert_array_equal(one, other)
  passes = [
    net.apply(variables, X, train=True, key=jax.random.key(seed))
    for seed in (1, 1, 2)
  ]
  np.testing.assert_array_equal(passes[0].out, passes[1].out)
  assert np.abs(passes[0].out - passes[2].out).max() > 1e-3
  with pytest.raises(
    ValueError, match=r'^Expected a key .* brought, which draws'
  ):
    net.apply(variables, X, train=True)


def test_second_derivatives_go_through_our_convolutions(way):
  net, variables, _, _ = way

  def loss(x):
    def slope(params):
      own = variables._replace(params=params)
      return net.apply(own, x, train=True, key=KEY).out.var()

    gradient = jax.grad(slope)(variables.params)
    return sum(jnp.square(g).sum() for g in jax.tree.leaves(gradient))

  found = jax.jit(jax.vmap(jax.grad(loss)))(jnp.stack([X, X / 2]))
  assert np.isfinite(found).all() and np.abs(found).max() > 0
  assert 'conv_general_dilated' not in str(jax.make_jaxpr(jax.grad(loss))(X))


@pytest.mark.parametrize(
  ('moves', 'words'),
  [
    (lambda train: True, 'moves running statistics in an inference pass'),
    (lambda train: False, 'leaves running statistics in a training pass'),
  ],
)
def test_a_state_that_does_not_listen_to_the_mode_is_refused(moves, words):
  def apply(params, state, x, *, train, key):
    x = x.mean((1, 2))
    return x @ params, x.mean(0) if moves(train) else state

  with pytest.raises(ValueError, match=f'^Expected .* brought, which {words}'):
    from_stateful.from_stateful(
      lambda key: (jnp.zeros((3, 4)), jnp.zeros(3)), apply, SPEC
    )


def test_a_function_that_draws_nothing_needs_no_key():
  net = from_stateful.from_stateful(
    lambda key: (jnp.ones((3, 4)), {}),
    lambda params, state, x, *, train, key: (x.mean((1, 2)) @ params, state),
    SPEC,
  )
  variables = net.init(KEY)
  out = net.apply(variables, X, train=True)
  np.testing.assert_array_equal(out.out, net.apply(variables, X).out)
  assert variables.stats == {}
