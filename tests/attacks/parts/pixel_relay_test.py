"""Tests of giajax.attacks.parts.pixel_relay."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees
from giajax.attacks.parts import pixel_relay
from giajax.models import base
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models import subset
from giajax.models.classification import convnet
from giajax.models.classification import lenet
from giajax.models.classification import mlp
from giajax.models.classification import vit
from giajax.models.parts import pools


class Chain(nnx.Module):
  """Convolutions, ReLU, pools where asked, and two linear layers."""

  def __init__(self, shape, strides, widths, pooled, *, rngs):
    h, w, channels = shape
    self.convs = nnx.List([])
    for stride, width, pool in zip(strides, widths, pooled):
      conv = layers.Conv(channels, width, 3 + stride // 2, stride, 1, rngs=rngs)
      self.convs.append(conv)
      channels = width
      h, w = (-(-v // stride) // (2 if pool else 1) for v in (h, w))
    self.pooled = pooled
    self.hidden = layers.Linear(h * w * channels, 24, rngs=rngs)
    self.fc = layers.Linear(24, 5, rngs=rngs)

  def __call__(self, x):
    for conv, pool in zip(self.convs, self.pooled):
      x = jax.nn.relu(conv(x))
      x = pools.max_pool(x, 2, 2) if pool else x
    return self.fc(jax.nn.relu(self.hidden(layers.flatten(x))))


def chain(strides, widths, pooled=None, shape=(8, 4, 3)):
  pooled = pooled or (False,) * len(strides)
  return from_nnx.from_nnx(
    lambda rngs: Chain(shape, strides, widths, pooled, rngs=rngs),
    base.make_spec('chain', shape, 5, 'cifar10'),
  )


def through(net, found, x):
  """What the first linear layer reads of images, in units of pixels."""
  variables = net.init(jax.random.key(0))
  params = trees.replaced(variables.params, found.leaves)
  tap = f'{found.layer}.input'
  output = net.apply(variables._replace(params=params), x, taps=(tap,))
  return output.taps[tap] * found.std + found.mean


X = jax.random.uniform(jax.random.key(1), (3, 8, 4, 3))


@pytest.mark.parametrize(
  'net',
  [
    chain((1, 1), (3, 4)),
    chain((2, 1), (12, 13)),
    mlp.mlp((8, 4, 3), 5, normalisation='cifar10'),
  ],
)
def test_every_pixel_arrives(net):
  found = pixel_relay.pixel_relay(net, 'a test')
  assert found.exact
  x = found.images(through(net, found, X))
  np.testing.assert_allclose(x, X, atol=1e-5)


def test_pools_leave_bounds():
  net = chain((1, 1), (6, 24), (False, True))
  found = pixel_relay.pixel_relay(net, 'a test')
  assert not found.exact and found.side == 2
  features = through(net, found, X)
  # All windows of 2x2: the largest pixels, and one minus the smallest.
  assert (found.sign > 0).sum() == (found.sign < 0).sum() == 8 * 4 * 3
  flat = X[0].reshape(-1)
  assert (
    features[0][found.sign > 0] >= flat[found.start[found.sign > 0]]
  ).all()
  x = found.images(features)
  assert jnp.abs(x - X).mean() < jnp.abs(0.5 - X).mean()
  # Every second column: a window of two shades knows both, and so the middle.
  even = jnp.full_like(X, 0.3)
  np.testing.assert_allclose(
    found.images(through(net, found, even)), even, atol=1e-5
  )
  step = even.at[:, :4].set(0.7)
  known = found.images(through(net, found, step))
  np.testing.assert_allclose(known[:, 4:], 0.3, atol=1e-5)
  np.testing.assert_allclose(known[:, :3], 0.7, atol=1e-5)


@pytest.mark.parametrize(
  'net, why',
  [
    (chain((2, 1), (11, 11)), 'too few channels'),
    (lenet.lenet((8, 8, 3), activation='relu'), 'too few channels'),
    (lenet.lenet((8, 8, 1), convolutions=3), 'too few channels'),
    (convnet.convnet((9, 9, 3), width=1), 'other layers in front'),
    (vit.vit((8, 8, 3), 5, width=12, heads=1, depth=1), 'front'),
    (
      subset.subset(chain((1, 1), (3, 4)), freeze=['convs.0.*']),
      'no trained kernel and bias',
    ),
  ],
)
def test_networks_that_cannot(net, why):
  with pytest.raises(ValueError, match=why):
    pixel_relay.pixel_relay(net, 'a test')
