"""Tests of networks of Keras: both modes, statistics, dropout, gradients."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

os.environ.setdefault('KERAS_BACKEND', 'jax')
keras = pytest.importorskip('keras', reason='needs Keras: giajax[peers]')

from giajax import trees  # noqa: E402
from giajax.models import base  # noqa: E402
from giajax.models import from_keras  # noqa: E402

_SPEC = base.make_spec('keras', (8, 8, 3), 5, 'half')


def _model(*more):
  keras.utils.set_random_seed(0)
  return keras.Sequential(
    [
      keras.Input((8, 8, 3)),
      keras.layers.Conv2D(4, 3, strides=2),
      keras.layers.BatchNormalization(momentum=0.8),
      keras.layers.ReLU(),
      keras.layers.Flatten(),
      *more,
      keras.layers.Dense(5),
    ]
  )


@pytest.fixture(scope='module')
def model():
  """Returns a network with BatchNorm."""
  return _model()


@pytest.fixture(scope='module')
def net(model):
  """Returns its Net."""
  return from_keras.from_keras(model, _SPEC)


@pytest.fixture(scope='module')
def x():
  """Returns three images."""
  return jax.random.uniform(jax.random.key(1), (3, 8, 8, 3))


@pytest.mark.parametrize('train', [False, True])
def test_logits_and_statistics(model, net, x, train):
  variables = net.init(jax.random.key(0))
  output = net.apply(variables, x, train=train)
  values = [v.value for v in model.trainable_variables]
  still = [v.value for v in model.non_trainable_variables]
  wanted, after = model.stateless_call(
    values, still, (x - 0.5) / 0.5, training=train
  )
  np.testing.assert_allclose(output.out, wanted, atol=1e-5)
  got = trees.named_leaves(output.stats)
  for variable, value in zip(model.non_trainable_variables, after):
    name = variable.path.partition('/')[2].replace('/', '.')
    np.testing.assert_allclose(got[name], value, atol=1e-6)
  moved = not np.allclose(after[0], still[0])
  assert moved == train


def test_gradient_is_keras_own(model, net, x):
  variables = net.init(jax.random.key(0))
  y = jnp.array([0, 3, 1])

  def mean_loss(out):
    log_p = jax.nn.log_softmax(out)
    return -jnp.take_along_axis(log_p, y[:, None], 1).mean()

  def ours(params):
    return mean_loss(
      net.apply(variables._replace(params=params), x, train=True).out
    )

  def theirs(values):
    still = [v.value for v in model.non_trainable_variables]
    out, _ = model.stateless_call(values, still, 2 * x - 1, training=True)
    return mean_loss(out)

  got = trees.named_leaves(jax.grad(ours)(variables.params))
  wanted = jax.grad(theirs)([v.value for v in model.trainable_variables])
  for variable, value in zip(model.trainable_variables, wanted):
    name = variable.path.partition('/')[2].replace('/', '.')
    np.testing.assert_allclose(got[name], value, atol=1e-5)


def test_dropout_draws_from_the_key(x):
  net = from_keras.from_keras(_model(keras.layers.Dropout(0.5)), _SPEC)
  variables = net.init(jax.random.key(0))
  one, same, other = (
    net.apply(variables, x, train=True, key=jax.random.key(k)).out
    for k in (1, 1, 2)
  )
  np.testing.assert_array_equal(one, same)
  assert not np.allclose(one, other)
  still = [net.apply(variables, x).out for _ in range(2)]
  np.testing.assert_array_equal(*still)
  with pytest.raises(ValueError, match='key'):
    net.apply(variables, x, train=True)


def test_weights_are_those_of_the_call(model, net):
  before = net.init(jax.random.key(0))
  kernel = model.trainable_variables[0]
  old = np.asarray(kernel.value)
  kernel.assign(old + 1)
  after = net.init(jax.random.key(1))
  kernel.assign(old)
  jax.tree.map(np.testing.assert_array_equal, before, after)


def test_what_is_no_built_model_is_refused():
  for wrong in (object(), keras.Sequential([keras.layers.Dense(2)])):
    with pytest.raises(ValueError, match='Expected a built'):
      from_keras.from_keras(wrong, _SPEC)
