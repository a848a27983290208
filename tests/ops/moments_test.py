"""Moments without weight gradients equal those of the gradients."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.models import base
from giajax.models import from_nnx
from giajax.models import gradient_moments
from giajax.models import layers
from giajax.models.parts import norms
from giajax.models.parts import pools
from giajax.ops import convolution
from giajax.ops import geometries
from giajax.ops import moments


class _Tiny(nnx.Module):
  """Convolutions on both sides of the Gram threshold, BatchNorm, linear."""

  def __init__(self, *, rngs):
    self.wide = layers.Conv(2, 3, 3, 1, 1, rngs=rngs)
    self.norm = norms.BatchNorm(3, rngs=rngs)
    self.down = layers.Conv(3, 12, 5, 2, 2, bias=False, rngs=rngs)
    self.deep = layers.Conv(12, 12, 3, 2, 0, rngs=rngs)
    self.depthwise = layers.Conv(12, 12, 3, 1, 1, groups=12, rngs=rngs)
    self.grouped = layers.Conv(12, 8, 1, groups=4, rngs=rngs)
    self.group_norm = norms.GroupNorm(8, groups=2, rngs=rngs)
    self.layer_norm = norms.LayerNorm(8, rngs=rngs)
    self.table = layers.Parameter(jnp.linspace(0.5, 1.5, 8))
    self.fc = layers.Linear(8, 5, rank=2, rngs=rngs)

  def __call__(self, x):
    x = jax.nn.sigmoid(self.norm(self.wide(x)))
    x = jnp.tanh(self.down(x))
    x = jnp.tanh(self.depthwise(x))
    x = jnp.tanh(self.deep(x))
    x = self.group_norm(jnp.tanh(self.grouped(x)))
    x = self.layer_norm(x) * self.table()
    return self.fc(pools.global_average_pool(x))


def _case(batch):
  spec = base.Spec('tiny', (8, 8, 2), 5, (0.5, 0.5), (0.5, 0.5))
  net = from_nnx.from_nnx(lambda rngs: _Tiny(rngs=rngs), spec)
  keys = jax.random.split(jax.random.key(0), 3)
  variables = net.init(keys[0])
  x, other = (jax.random.uniform(k, (batch, 8, 8, 2)) for k in keys[1:])
  y = jnp.arange(batch) % 5

  def loss_fn(output):
    logs = jax.nn.log_softmax(output.out)
    return -jnp.mean(jnp.take_along_axis(logs, y[:, None], 1))

  return net, variables, x, other, loss_fn


@pytest.mark.parametrize('batch,train', [(1, False), (4, True)])
def test_ghost_equals_explicit_and_so_do_gradients(batch, train):
  net, variables, x, other, loss_fn = _case(batch)

  def gradient(x):
    def loss(params):
      variables_ = variables._replace(params=params)
      return loss_fn(net.apply(variables_, x, train=train))

    return jax.grad(loss)(variables.params)

  def explicit(x, target):
    return moments.of_gradients(gradient(x), target)

  def ghost(x, target):
    return gradient_moments.gradient_moments(
      net, loss_fn, variables, x, target, train=train
    )[0]

  def weighted(found):  # every moment counts, none like another
    leaves = jax.tree.leaves((found.dot, found.squared))
    return sum(w * leaf for w, leaf in enumerate(leaves, 1))

  def run(x):
    target = gradient(other)
    found = [ghost(x, target), explicit(x, target)]
    slopes = [
      jax.grad(lambda x, f=f: weighted(f(x, target)))(x)
      for f in (ghost, explicit)
    ]
    return found, slopes

  (got, want), slopes = jax.jit(run)(x)
  assert jax.tree.structure(got) == jax.tree.structure(want)
  largest = max(np.abs(m) for m in want.squared.values())
  for part, expected in zip(got, want):
    for name, value in expected.items():
      np.testing.assert_allclose(
        part[name], value, rtol=1e-4, atol=1e-5 * largest, err_msg=name
      )
  scale = np.abs(slopes[1]).max()
  np.testing.assert_allclose(slopes[0], slopes[1], atol=1e-4 * scale)


@pytest.mark.parametrize('features', [2, 96], ids=['explicit', 'gram'])
@pytest.mark.parametrize(
  'geometry',
  [
    geometries.Geometry(padding=((1, 1), (1, 1))),
    geometries.Geometry((2, 2), ((0, 1), (1, 0))),
  ],
  ids=['same', 'strided'],
)
def test_site_moments_of_a_convolution(geometry, features):
  keys = jax.random.split(jax.random.key(0), 3)
  x = jax.random.normal(keys[0], (2, 5, 5, 16))
  size = geometries.output_size((5, 5), (3, 3), geometry)
  cotangent = jax.random.normal(keys[1], (2, *size, features))
  target = jax.random.normal(keys[2], (3, 3, 16, features))
  site = moments.Site('conv', x, geometry)
  parts = moments.site_parts(site, cotangent, {'kernel': target})
  assert isinstance(parts['kernel'], moments.Pair) == (features == 96)
  found = moments.of_parts(parts, {'kernel': target})
  g = convolution.faces(x.shape, target.shape, geometry, 'lax').to_kernel(
    x, cotangent
  )
  dot, squared = found.dot['kernel'], found.squared['kernel']
  np.testing.assert_allclose(dot, jnp.vdot(g, target), rtol=1e-4, atol=1e-3)
  np.testing.assert_allclose(squared, jnp.vdot(g, g), rtol=1e-4)


def test_moments_of_gradients_are_those_of_each_leaf():
  """Leaves of one length, which share a product, stay apart."""
  shapes = {'a': (3,), 'b': (2, 3), 'c': (3,), 'd': (4,), 'e': (), 'f': (3,)}
  rng = np.random.default_rng(0)
  g, t = ({n: rng.normal(size=s) for n, s in shapes.items()} for _ in range(2))
  found = moments.of_gradients(*jax.tree.map(jnp.float32, (g, t)))
  for part, one, other in zip(found, (g, g, t), (t, g, t)):
    assert part.keys() == shapes.keys()
    for name, value in part.items():
      want = np.vdot(one[name], other[name])
      np.testing.assert_allclose(value, want, rtol=1e-5, err_msg=name)
