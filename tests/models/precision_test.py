"""Tests of the precisions of an attacker's network."""

import jax
from jax.extend import core
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees
from giajax.clients import base as clients
from giajax.engine import systems
from giajax.models import gradient_moments
from giajax.models import inspect
from giajax.models import precision
from giajax.tasks import classification


def _net(name, **arguments):
  entry = {'name': name, **arguments}
  return systems.model(entry, image_shape=(32, 32, 3), num_classes=4)


def _products(jaxpr):
  """Yields the types of all products in a program, nested ones included."""
  for equation in jaxpr.eqns:
    if equation.primitive.name in ('dot_general', 'conv_general_dilated'):
      yield equation.outvars[0].aval.dtype
    for inner in core.jaxprs_in_params(equation.params):
      yield from _products(inner)


# Those whose layers bring numbers of their own: masks, offsets, averages.
@pytest.mark.parametrize(
  'name, arguments',
  [
    ('resnet20', {}),
    ('mobilenet_v3_small', {}),
    ('swin_tiny', {'width': 32, 'depths': (2, 2)}),
    ('swin_v2_tiny', {'width': 32, 'depths': (2, 2)}),
    ('vit_tiny', {'depth': 1}),
  ],
)
@pytest.mark.parametrize('train', [False, True])
def test_all_products_are_narrow_and_all_ends_wide(name, arguments, train):
  half = precision.in_bfloat16(_net(name, **arguments))
  variables = inspect.abstract_variables(half)
  x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
  key = jax.random.key(0)

  def run(variables, x):
    output, sites, outputs = half.probe(
      variables, x, None, train=train, key=key
    )
    return output, [site.input for site in sites.values()], outputs

  jaxpr, shapes = jax.make_jaxpr(run, return_shape=True)(variables, x)
  assert set(_products(jaxpr.jaxpr)) == {jnp.dtype('bfloat16')}
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {
    jnp.dtype('float32')
  }


def test_gradient_and_moments_are_those_of_float32_but_for_roundings():
  net = _net('convnet', width=8)
  half = precision.in_bfloat16(net)
  variables = net.init(jax.random.key(0))
  task = classification.classification(num_classes=4)
  x = jax.random.uniform(jax.random.key(1), (2, 32, 32, 3))
  y = jnp.asarray([0, 3])

  def gradient(net):
    def loss(params):
      output = net.apply(variables._replace(params=params), x)
      return clients.loss(task, output, y)

    return jax.jit(jax.grad(loss))(variables.params)

  want, got = gradient(net), gradient(half)
  difference = trees.squared_norm(jax.tree.map(jnp.subtract, got, want))
  assert 1e-4 < (difference / trees.squared_norm(want)) ** 0.5 < 3e-2

  @jax.jit
  def moments(target):
    return gradient_moments.gradient_moments(
      half, lambda output: clients.loss(task, output, y), variables, x, target
    )[0]

  products = moments(got)
  want = trees.squared_norm(got)
  for sums in (products.squared, products.dot):
    np.testing.assert_allclose(sum(sums.values()), want, rtol=1e-2)


def test_an_edited_network_stays_narrow():
  half = precision.in_bfloat16(_net('mlp'))
  edited = half.edit(lambda module, rngs: None)
  x = jnp.zeros((1, 32, 32, 3))
  jaxpr = jax.make_jaxpr(edited.apply)(edited.init(jax.random.key(0)), x)
  assert set(_products(jaxpr.jaxpr)) == {jnp.dtype('bfloat16')}
