"""Tests of giajax.models.layers by hand-made answers."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.models import base
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models.parts import initializers
from giajax.models.parts import norms
from giajax.models.parts import pools

SPEC = base.make_spec('tiny', (2, 2, 1), 1, 'none')


class Twice(nnx.Module):
  """Calls one layer twice."""

  def __init__(self, rngs):
    self.fc = layers.Linear(4, 4, rngs=rngs)

  def __call__(self, x):
    """Maps [B, 2, 2, 1] to [B, 4]."""
    return self.fc(self.fc(layers.flatten(x)))


class Normal(nnx.Module):
  """A BatchNorm alone."""

  def __init__(self, rngs):
    self.bn = norms.BatchNorm(1, rngs=rngs)

  def __call__(self, x):
    """Maps [B, 2, 2, 1] to [B, 4]."""
    return layers.flatten(self.bn(x))


@pytest.fixture(scope='module')
def normal():
  net = from_nnx.from_nnx(Normal, SPEC)
  return net, net.init(jax.random.key(0))


def test_a_layer_used_twice_is_refused():
  net = from_nnx.from_nnx(Twice, SPEC)
  variables = net.init(jax.random.key(0))
  with pytest.raises(ValueError, match=r"each layer once.*'fc' twice"):
    net.apply(variables, jnp.ones((1, 2, 2, 1)))


def test_batch_statistics_by_hand(normal):
  net, variables = normal
  x = jnp.asarray([[1.0, 2.0], [3.0, 6.0]]).reshape(1, 2, 2, 1)
  output = net.apply(variables, x, train=True)
  # Mean 3; variance 3.5 over 4 values, 14/3 over 3.
  np.testing.assert_allclose(
    output.out[0], np.array([-2, -1, 0, 3]) / np.sqrt(3.5 + 1e-5), rtol=1e-6
  )
  np.testing.assert_allclose(output.stats['bn']['mean'], [0.3], rtol=1e-6)
  np.testing.assert_allclose(
    output.stats['bn']['var'], [0.9 + 1.4 / 3], rtol=1e-6
  )


def test_inference_uses_the_running_statistics(normal):
  net, variables = normal
  stats = {'bn': {'mean': jnp.array([2.0]), 'var': jnp.array([4.0])}}
  x = jnp.full((1, 2, 2, 1), 4.0)
  output = net.apply(variables._replace(stats=stats), x)
  np.testing.assert_allclose(output.out, 1, rtol=1e-5)
  assert output.stats == stats


def test_one_value_per_channel_cannot_train():
  net = from_nnx.from_nnx(Normal, SPEC._replace(image_shape=(1, 1, 1)))
  variables = net.init(jax.random.key(0))
  x = jnp.ones((1, 1, 1, 1))
  with pytest.raises(ValueError, match=r"more than 1 value.*1\) at 'bn'"):
    jax.jit(lambda v: net.apply(v, x, train=True))(variables)
  assert net.apply(variables, x).out.shape == (1, 1)


def test_flatten_is_channels_first():
  x = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
  np.testing.assert_array_equal(
    layers.flatten(jnp.asarray(x)), x.transpose(0, 3, 1, 2).reshape(2, -1)
  )


def test_max_pool_pads_with_minus_infinity():
  x = -jnp.ones((1, 3, 3, 1))
  np.testing.assert_array_equal(
    pools.max_pool(x, 3, 2, 1), -np.ones((1, 2, 2, 1))
  )


def test_initial_bounds():
  @jax.jit
  def draw(key):
    conv = layers.Conv(4, 8, 3, rngs=nnx.Rngs(key))
    assert conv.bias is not None
    he = initializers.he_normal_fan_out(key, (3, 3, 16, 64))
    return conv.kernel[...], conv.bias[...], he

  kernel, bias, he = draw(jax.random.key(0))
  assert 0.9 / 6 < np.abs(kernel).max() <= 1 / 6
  assert 0 < np.abs(bias).max() <= 1 / 6
  np.testing.assert_allclose(he.std(), np.sqrt(2 / (9 * 64)), rtol=0.03)
