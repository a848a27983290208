"""Tests of giajax.models.base: taps, and networks that users bring."""

from typing import Any

import equinox
from flax import linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees
from giajax.models import base
from giajax.models import from_callable
from giajax.models import from_linen
from giajax.models import inspect
from giajax.models import layers
from giajax.models import subset
from giajax.models.classification import mlp
from giajax.models.classification import resnet

RESNET = resnet.resnet((8, 8, 3), 4, depth=20)
SPEC = base.make_spec('brought', (6, 5, 3), 4, 'half')
X = np.random.default_rng(0).random((3, 6, 5, 3), np.float32)


class Plain(linen.Module):
  """A linear layer."""

  @linen.compact
  def __call__(self, x):
    """Maps [B, H, W, C] to [B, 4]."""
    return linen.Dense(4)(x.reshape(x.shape[0], -1))


@pytest.fixture(scope='module')
def small():
  net = mlp.mlp((6, 5, 3), 4, widths=(7,))
  return net, net.init(jax.random.key(0))


def test_taps_are_the_activations(small):
  net, variables = small
  names = ('layers.0.input', 'layers.0', 'layers.1.input', 'layers.1')
  output = net.apply(variables, X, taps=names)
  assert set(output.taps) == set(names)
  np.testing.assert_array_equal(output.taps['layers.1'], output.out)
  np.testing.assert_array_equal(
    output.taps['layers.0.input'], np.moveaxis(X, -1, 1).reshape(3, -1)
  )
  np.testing.assert_array_equal(
    output.taps['layers.1.input'], jax.nn.relu(output.taps['layers.0'])
  )
  assert net.apply(variables, X).taps == {}


def test_unknown_taps_are_named(small):
  net, variables = small
  with pytest.raises(ValueError, match=r"layer of mlp.*\['fc'\]"):
    net.apply(variables, X, taps=('layers.0', 'fc'))


def test_offsets_reach_the_outputs(small):
  net, variables = small
  _, sites, outputs = net.probe(variables, X, None)
  assert list(sites) == list(outputs) == ['layers.0', 'layers.1']
  offsets = {k: np.full(v.shape, 0.5, np.float32) for k, v in outputs.items()}
  moved, _, _ = net.probe(variables, X, offsets)
  kernel = variables.params['layers']['1']['kernel']
  hidden = jax.nn.relu(outputs['layers.0'] + 0.5)
  expected = hidden @ kernel + variables.params['layers']['1']['bias'] + 0.5
  np.testing.assert_allclose(moved.out, expected, rtol=1e-5, atol=1e-6)


class Doubled(layers.Layer):
  """Twice its input, and a penalty of 3."""

  def __call__(self, x):
    self.context.penalty += 3.0
    return 2 * x


def test_a_network_can_be_edited(small):
  net, variables = small

  def change(module, rngs):
    del rngs
    module.layers[1].before = Doubled()

  # It would lose what is frozen.
  assert subset.subset(net, ['layers.0.*']).edit is None
  edited = net.edit(change)
  fresh = edited.init(jax.random.key(0))
  jax.tree.map(
    np.testing.assert_array_equal,
    fresh.params,
    net.init(jax.random.key(0)).params,
  )
  found, plain = edited.apply(variables, X), net.apply(variables, X)
  assert found.penalty == 3 and plain.penalty == 0
  bias = variables.params['layers']['1']['bias']
  np.testing.assert_allclose(
    found.out - bias, 2 * (plain.out - bias), rtol=1e-5, atol=1e-6
  )


def test_mlp_without_hidden_layers_is_softmax_regression():
  net = mlp.mlp((6, 5, 3), 4, widths=())
  variables = net.init(jax.random.key(0))
  layer = variables.params['layers']['0']
  flat = np.moveaxis(X, -1, 1).reshape(3, -1)
  np.testing.assert_allclose(
    net.apply(variables, X).out,
    flat @ np.asarray(layer['kernel']) + layer['bias'],
    rtol=1e-5,
    atol=1e-6,
  )
  with pytest.raises(ValueError, match=r'widths of at least 1; got.*\(3, 0\)'):
    mlp.mlp(widths=(3, 0))


def test_from_callable_takes_an_equinox_model():
  def make(key: Any) -> Any:
    return equinox.nn.Linear(90, 4, key=key)

  def apply(model, x):
    return jax.vmap(model)(x.reshape(x.shape[0], -1))

  net = from_callable.from_callable(make, apply, SPEC)
  variables = net.init(jax.random.key(0))
  flat = ((X - 0.5) / 0.5).reshape(3, -1)
  np.testing.assert_allclose(
    net.apply(variables, X, train=True).out,
    flat @ variables.params.weight.T + variables.params.bias,
    rtol=1e-5,
    atol=1e-5,
  )
  gradient = jax.grad(lambda v: jnp.sum(net.apply(v, X).out))(variables)
  assert set(trees.named_leaves(gradient.params)) == {'weight', 'bias'}


def brought():
  """Returns a network by each of the ways to make one."""
  return {
    'nnx': mlp.mlp((6, 5, 3), 4, widths=()),
    'linen': from_linen.from_linen(Plain(), SPEC),
    'callable': from_callable.from_callable(
      lambda key: jnp.zeros((90, 4)),
      lambda params, x: x.reshape(x.shape[0], -1) @ params,
      SPEC,
    ),
  }


@pytest.mark.parametrize('way', ['nnx', 'linen', 'callable'])
@pytest.mark.parametrize(
  ('x', 'message'),
  [
    (X[..., :1], r'of shape \(6, 5, 3\).*got shape=\(3, 6, 5, 1\)'),
    (X[0, :5], r'got shape=\(5, 5, 3\)'),
    (X.swapaxes(1, 2), r'got shape=\(3, 5, 6, 3\)'),
    ((X * 255).astype(np.uint8), 'dtype=uint8; divide bytes by 255'),
  ],
  ids=['grey', 'no batch', 'turned', 'bytes'],
)
def test_images_of_another_form_are_refused(way, x, message):
  net = brought()[way]
  variables = net.init(jax.random.key(0))
  for apply in (net.apply, jax.jit(net.apply)):
    with pytest.raises(ValueError, match=f'^Expected images.*{message}'):
      apply(variables, x)


def test_normalisation_of_other_channels_is_the_average():
  rgb = base.make_spec('x', (4, 4, 3), 2, 'cifar10')
  grey = base.make_spec('x', (4, 4, 1), 2, 'cifar10')
  assert grey.mean == (round(sum(rgb.mean) / 3, 4),)
  x = jnp.ones((1, 4, 4, 1))
  np.testing.assert_allclose(
    base.normalise(x, grey), (1 - grey.mean[0]) / grey.std[0], rtol=1e-6
  )


def test_inputs_of_every_norm_layer_can_be_tapped():
  paths = inspect.norms(RESNET)
  assert len(paths) == 19
  assert paths[0] == 'bn1'
  taps = tuple(f'{path}.input' for path in paths)
  variables = inspect.abstract_variables(RESNET)
  x = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
  found = jax.eval_shape(
    lambda v, x: RESNET.apply(v, x, taps=taps), variables, x
  ).taps
  assert found['bn1.input'].shape == (2, 8, 8, 16)
  assert set(found) == set(taps)
