"""Layers that are found in the trace of a pass, and their moments."""

import functools
from typing import Any

import equinox as eqx
from flax import linen
from flax import nnx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees
from giajax.models import base
from giajax.models import from_callable
from giajax.models import from_linen
from giajax.models import from_nnx
from giajax.models import from_stateful
from giajax.models import gradient_moments
from giajax.models import inspect
from giajax.models import layers
from giajax.models import relaid
from giajax.ops import moments

SPEC = base.make_spec('brought', (6, 6, 3), 4, 'half')
X = jax.random.uniform(jax.random.key(1), (2, 6, 6, 3))
KEY = jax.random.key(0)


class Linen(linen.Module):
  """Convolutions of many kinds, and what a transformer is made of."""

  @linen.compact
  def __call__(self, x, train=False):
    norm = linen.BatchNorm(use_running_average=not train, momentum=0.9)
    x = linen.relu(norm(linen.Conv(4, (3, 3), strides=2)(x)))
    x = linen.Conv(8, (3, 3), feature_group_count=4, use_bias=False)(x)
    x = linen.Conv(8, (2, 2), kernel_dilation=2, padding='VALID')(jnp.tanh(x))
    x = x.reshape(x.shape[0], -1, 8)
    token = self.param('token', linen.initializers.normal(), (1, 1, 8))
    x = jnp.concatenate([jnp.tile(token, (len(x), 1, 1)), x], 1)
    table = linen.initializers.normal(1.0)
    x = x + self.param('positions', table, (1, x.shape[1], 8))
    attention = linen.MultiHeadDotProductAttention(2)
    x = x + linen.remat(Branch)()(attention(linen.LayerNorm()(x)))
    x = linen.RMSNorm()(linen.GroupNorm(2)(x))
    x = x * self.param('gain', linen.initializers.constant(0.5), (8,))
    return linen.Dense(4)(x.mean(1))


class Branch(linen.Module):
  @linen.compact
  def __call__(self, x):
    return linen.Dense(8)(jax.nn.gelu(linen.Dense(5, use_bias=False)(x)))


class Ordinary(nnx.Module):
  """Layers of flax."""

  def __init__(self, rngs):
    self.conv = nnx.Conv(3, 4, (3, 3), strides=2, rngs=rngs)
    self.bn = nnx.BatchNorm(4, rngs=rngs)
    self.norm = nnx.LayerNorm(4, rngs=rngs)
    self.attention = nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs)
    self.head = nnx.Linear(4, 4, rngs=rngs)

  def __call__(self, x):
    x = jax.nn.gelu(self.bn(self.conv(x))).reshape(len(x), -1, 4)
    return self.head((x + self.attention(self.norm(x))).mean(1))


class Mixed(nnx.Module):
  """Layers of flax between those of giajax."""

  def __init__(self, rngs):
    self.conv = layers.Conv(3, 4, 3, rngs=rngs)
    self.bn = nnx.BatchNorm(4, rngs=rngs)
    self.inner = nnx.Conv(4, 6, (3, 3), rngs=rngs)
    self.head = layers.Linear(6, 4, rngs=rngs)

  def __call__(self, x):
    x = jax.nn.relu(self.bn(self.conv(x)))
    return self.head(jnp.tanh(self.inner(x)).mean((1, 2)))


def of_haiku():
  def forward(x, train):
    x = hk.Conv2D(4, 3, stride=2)(x)
    x = hk.BatchNorm(True, True, decay_rate=0.9)(x, train)
    x = hk.Conv2D(4, 3, data_format='NCHW')(x.transpose(0, 3, 1, 2))
    x = hk.LayerNorm(-1, True, True)(jax.nn.relu(x).transpose(0, 2, 3, 1))
    return hk.Linear(4)(hk.Flatten()(x))

  pair = hk.transform_with_state(forward)
  return from_stateful.from_stateful(
    lambda key: pair.init(key, jnp.zeros((1, 6, 6, 3)), True),
    lambda params, state, x, *, train, key: pair.apply(
      params, state, key, x, train
    ),
    SPEC,
  )


class Equinox(eqx.Module):
  parts: list[Any]
  norm: eqx.nn.BatchNorm
  flat: eqx.nn.Conv1d
  head: eqx.nn.Linear

  def __init__(self, key):
    first, second, third = jax.random.split(key, 3)
    conv = eqx.nn.Conv2d(3, 4, 3, stride=2, padding=1, key=first)
    self.parts = [conv, eqx.nn.GroupNorm(2, 4)]
    self.norm = eqx.nn.BatchNorm(4, 'batch', mode='batch')
    self.flat = eqx.nn.Conv1d(4, 5, 2, key=second)
    self.head = eqx.nn.Linear(40, 4, key=third)

  def __call__(self, x, state):
    for part in self.parts:
      x = part(x)
    x, state = self.norm(x, state)
    x = self.flat(jax.nn.relu(x).reshape(4, -1)).ravel()
    return self.head(x), state


def of_equinox():
  def make(key):
    model, state = eqx.nn.make_with_state(Equinox)(key)
    return (*eqx.partition(model, eqx.is_inexact_array), state)

  static = eqx.filter_eval_shape(make, KEY)[1]

  def init(key):
    params, _, state = make(key)
    return params, state

  def apply(params, state, x, *, train, key):
    model = eqx.combine(params, static)
    model = model if train else eqx.nn.inference_mode(model)
    batched = jax.vmap(model, (0, None), (0, None), axis_name='batch')
    return batched(x.transpose(0, 3, 1, 2), state)

  return from_stateful.from_stateful(init, apply, SPEC)


def by_hand():
  """Lists of weights and biases, and a bare product in another order."""

  def init(key):
    draws = jax.random.split(key, 4)
    shapes = [(6, 7, 3, 6), (7,)], [(5, 7), (5,)], [(4, 5), (4,)]
    return [
      [jax.random.normal(k, shape) / 3 for shape in pair]
      for k, pair in zip(draws, shapes)
    ]

  def apply(params, x):
    (w, b), (v, c), (u, d) = params
    x = jnp.tanh(jnp.einsum('hpcw,bhwc->bp', w, x) + b)
    x = jnp.tanh(jax.jit(jnp.matmul)(x, v.T) + c)
    return (u @ x.T).T + d

  return from_callable.from_callable(init, apply, SPEC)


WAYS = {
  'linen': lambda: from_linen.from_linen(Linen(), SPEC),
  'nnx': lambda: from_nnx.from_nnx(Ordinary, SPEC),
  'mixed': lambda: from_nnx.from_nnx(Mixed, SPEC),
  'haiku': of_haiku,
  'equinox': of_equinox,
  'by_hand': by_hand,
}
CASES = [*WAYS, *(f'{way} relaid' for way in WAYS if way != 'mixed')]


@functools.cache
def network(case):
  way, _, again = case.partition(' ')
  net = WAYS[way]()
  net = relaid.relaid(net).net if again else net
  return net, net.init(KEY)


def loss_fn(output):
  logs = jax.nn.log_softmax(output.out)
  return -logs[:, 1].mean()


def both(case, train):
  """Returns the two ways to the moments, as functions of the images."""
  net, variables = network(case)
  target = jax.tree.map(
    lambda a: jnp.cos(jnp.arange(a.size) * 1.7).reshape(a.shape),
    variables.params,
  )

  def quick(x):
    return gradient_moments.gradient_moments(
      net, loss_fn, variables, x, target, train=train
    )[0]

  def explicit(x):
    def loss(params):
      own = variables._replace(params=params)
      return loss_fn(net.apply(own, x, train=train))

    return moments.of_gradients(jax.grad(loss)(variables.params), target)

  return quick, explicit


@pytest.mark.parametrize('train', [False, True])
@pytest.mark.parametrize('case', CASES)
def test_moments_and_their_derivatives_are_those_of_the_gradient(case, train):
  def values(function):
    def weighted(x):  # every moment counts, none like another
      leaves = jax.tree.leaves(function(x)[:2])
      return sum(leaf * (1 + i % 7) for i, leaf in enumerate(leaves))

    slopes = jax.vmap(jax.grad(weighted))
    return jax.jit(lambda x: (function(x), slopes(jnp.stack([x, x / 2]))))(X)

  (found, slope), (expected, other) = map(values, both(case, train))
  for ours, theirs in zip(found, expected, strict=True):
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
      np.testing.assert_allclose(value, theirs[name], 1e-3, 1e-5, err_msg=name)
  scale = np.abs(other).max()
  np.testing.assert_allclose(slope / scale, other / scale, atol=1e-4)


@pytest.mark.parametrize('case', WAYS)
def test_a_probe_is_the_pass_itself(case):
  net, variables = network(case)
  for train in (False, True):
    found, sites, outputs = net.probe(variables, X, None, train=train)
    expected = net.apply(variables, X, train=train)
    np.testing.assert_allclose(found.out, expected.out, 1e-4, 1e-5)
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
      found.stats,
      expected.stats,
    )
    assert {s.kind for s in sites.values()} <= {
      'conv',
      'linear',
      'scale',
      'value',
    }
    multiplied = {p for p, s in sites.items() if s.kind in ('conv', 'linear')}
    assert multiplied <= outputs.keys()


def kinds(net):
  return {path: s.kind for path, s in inspect.traced_sites(net).items()}


def test_layers_come_in_the_order_of_the_pass():
  assert list(kinds(network('nnx')[0]).items()) == [
    ('conv', 'conv'),
    ('bn', 'scale'),
    ('norm', 'scale'),
    ('attention.query', 'linear'),
    ('attention.key', 'linear'),
    ('attention.value', 'linear'),
    ('attention.out', 'linear'),
    ('head', 'linear'),
  ]
  assert [*kinds(network('mixed')[0])] == ['conv', 'bn', 'inner', 'head']


def test_kinds_are_found_by_what_the_trace_shows():
  found = kinds(network('linen')[0])
  assert [p for p, kind in found.items() if kind == 'value'] == [
    'token',
    'positions',
    'gain',
  ]
  assert [p for p, kind in found.items() if kind == 'conv'] == [
    'Conv_0',
    'Conv_1',
    'Conv_2',
  ]
  norms = ['BatchNorm_0', 'LayerNorm_0', 'GroupNorm_0', 'RMSNorm_0']
  assert [p for p, kind in found.items() if kind == 'scale'] == norms
  assert [*found][-1] == 'Dense_0' and found['CheckpointBranch_0.Dense_1']
  # A path is all of a name where its first part is no layer's alone.
  assert [*kinds(network('by_hand')[0])] == ['0', '1', '2']


def test_taps_are_what_layers_read_and_gave():
  net, variables = network('equinox relaid')
  names = ('parts.0', 'parts.1.input', 'parts.1', 'norm.input', 'head.input')
  out = net.apply(variables, X, train=True, taps=(*names, 'head'))
  taps = out.taps
  assert taps['parts.0'].shape == (2, 3, 3, 4)
  np.testing.assert_allclose(taps['parts.0'], taps['parts.1.input'], 1e-6)
  np.testing.assert_allclose(taps['parts.1'], taps['norm.input'], 1e-6)
  np.testing.assert_array_equal(taps['head'], out.out)
  kernel, bias = (variables.params['head'][leaf] for leaf in ('kernel', 'bias'))
  expected = taps['head.input'] @ kernel + bias
  np.testing.assert_allclose(out.out, expected, 1e-4, 1e-5)
  with pytest.raises(ValueError, match=r"brought; got taps=\['fc'\]; use a"):
    net.apply(variables, X, taps=('fc', 'head'))


def test_convolutions_are_lowered_as_ours():
  quick, _ = both('linen', True)
  made = str(jax.make_jaxpr(jax.grad(lambda x: quick(x).dot['positions']))(X))
  assert 'conv_general_dilated' not in made


class Stacked(nnx.Module):
  """Layers that a scan passes through."""

  def __init__(self, rngs):
    make = nnx.vmap(lambda rngs: nnx.Linear(108, 108, rngs=rngs))
    self.layers = nnx.split_rngs(splits=2)(make)(rngs)
    self.head = nnx.Linear(108, 4, rngs=rngs)

  def __call__(self, x):
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def through(layer, x):
      return jnp.tanh(layer(x))

    return self.head(through(self.layers, x.reshape(len(x), -1)))


def tied(p, x):
  x = x.reshape(len(x), -1) @ p['w']
  return jnp.tanh(x) @ p['w'].T[:, :4]


ODD = {
  'tied': (tied, "where the parameter 'w' is read 2 times; read it once"),
  'normalised': (
    lambda p, x: x.reshape(len(x), -1) @ (p['w'] / jnp.abs(p['w']).sum(0)),
    "'w' is read 2 times",
  ),
  'squared': (
    lambda p, x: x.reshape(len(x), -1) @ jnp.square(p['w']),
    "'w' is read by square",
  ),
  'looped': (
    lambda p, x: jax.lax.fori_loop(
      0, 1, lambda i, y: y + x.reshape(len(x), -1) @ p['w'], jnp.zeros((2, 4))
    ),
    "'w' is read by (scan|while)",
  ),
  'transposed': (
    lambda p, x: jax.lax.conv_transpose(
      x, p['w'].reshape(6, 6, 3, 4), (2, 2), 'SAME'
    ).mean((1, 2)),
    "'w' is read by conv_general_dilated",
  ),
  'batched': (
    lambda p, x: jnp.einsum(
      'bhc,hcp->bhp', x.reshape(len(x), 6, 18), p['w'].reshape(6, 18, 4)
    ).sum(1),
    "'w' is read by dot_general",
  ),
  'masked': (
    lambda p, x: x.reshape(len(x), -1) @ (p['w'] * (jnp.arange(4) > 0)),
    "'w' is read by mul",
  ),
  'summed': (
    lambda p, x: (x.reshape(len(x), -1)[:, :, None] * p['w']).sum(1),
    "'w' is read by mul",
  ),
  'returned': (lambda p, x: p['w'][:2], "'w' is (returned|read)"),
}


def odd(name):
  if name == 'stacked':
    return from_nnx.from_nnx(Stacked, SPEC)
  width = 7 if name == 'tied' else 4
  return from_callable.from_callable(
    lambda key: {'w': jax.random.normal(key, (108, width)) / 9},
    ODD[name][0],
    SPEC,
  )


@pytest.mark.parametrize('name', [*ODD, 'stacked'])
def test_what_no_layer_does_has_right_moments_and_no_name(name):
  net = odd(name)
  variables = net.init(KEY)
  gradient = jax.grad(
    lambda p: loss_fn(net.apply(variables._replace(params=p), X))
  )(variables.params)
  found, _ = gradient_moments.gradient_moments(
    net, loss_fn, variables, X, gradient
  )
  for leaf, g in trees.named_leaves(gradient).items():
    np.testing.assert_allclose(found.dot[leaf], jnp.vdot(g, g), 1e-3, 1e-6)
  words = ODD[name][1] if name in ODD else "'layers.bias' is read by scan"
  with pytest.raises(ValueError, match=f'whose layers are known.*{words}'):
    inspect.sites(net)
  assert inspect.features(net) is None


def test_a_kernel_that_meets_no_image_is_no_layer():
  net = from_callable.from_callable(
    lambda key: {'a': jnp.ones((108, 2)), 'b': jnp.ones((2, 4))},
    lambda p, x: x.reshape(len(x), -1) @ (p['a'] @ p['b']),
    SPEC,
  )
  assert kinds(net) == {'a': 'other', 'b': 'other'}


def test_parameters_that_are_not_read_have_a_gradient_of_zero():
  net = from_callable.from_callable(
    lambda key: {'w': jnp.ones((108, 4)), 'idle': jnp.ones(3)},
    lambda p, x: x.reshape(len(x), -1) @ p['w'],
    SPEC,
  )
  variables = net.init(KEY)
  found, _ = gradient_moments.gradient_moments(
    net, loss_fn, variables, X, variables.params
  )
  assert found.squared['idle'] == 0 and kinds(net)['idle'] == 'value'
