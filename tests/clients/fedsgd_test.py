"""Tests of giajax.clients.fedsgd."""

import jax
import jax.numpy as jnp
import numpy as np

from giajax import trees
from giajax import types
from giajax.clients import fedsgd
from giajax.models import base as models
from giajax.models import from_callable
from giajax.models.classification import mlp
from giajax.tasks import classification

K = 3
TASK = classification.classification(K)
NET = mlp.mlp((2, 2, 1), K, widths=())
KEY = jax.random.key(0)


def sample(batch_size=4):
  x = jax.random.uniform(jax.random.key(1), (batch_size, 2, 2, 1))
  y = jnp.arange(batch_size) % K
  return types.ServerMessage(NET.init(jax.random.key(2))), types.Batch(x, y)


def test_softmax_regression_by_hand():
  """dL/dW = x' (p - y) / B and dL/db = mean (p - y), in float64."""
  message, batch = sample()
  update, _ = fedsgd.fedsgd(NET, TASK).update(KEY, message, batch)
  layer = message.variables.params['layers']['0']
  w, b = (np.asarray(layer[n], np.float64) for n in ('kernel', 'bias'))
  x = np.asarray(batch.x, np.float64).reshape(4, 4)
  z = x @ w + b
  p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
  error = p - np.eye(K)[np.asarray(batch.y)]
  found = update.delta['layers']['0']
  np.testing.assert_allclose(found['kernel'], x.T @ error / 4, atol=1e-6)
  np.testing.assert_allclose(found['bias'], error.mean(axis=0), atol=1e-6)


def test_update_is_the_mean_over_images():
  client = fedsgd.fedsgd(NET, TASK)
  message, batch = sample(2)
  together = client.update(KEY, message, batch)[0].delta
  one, two = (
    client.update(
      KEY, message, jax.tree.map(lambda v, i=i: v[i : i + 1], batch)
    )[0].delta
    for i in range(2)
  )
  jax.tree.map(
    lambda t, u, v: np.testing.assert_allclose(t, (u + v) / 2, atol=1e-6),
    together,
    one,
    two,
  )


def test_soft_labels():
  client = fedsgd.fedsgd(NET, TASK)
  message, batch = sample()
  hard = client.update(KEY, message, batch)[0]
  soft = batch._replace(y=jax.nn.one_hot(batch.y, K))
  soft = client.update(KEY, message, soft)[0]
  assert (
    trees.squared_norm(jax.tree.map(jnp.subtract, hard.delta, soft.delta))
    < 1e-12
  )


def test_the_key_does_not_matter():
  client = fedsgd.fedsgd(NET, TASK)
  message, batch = sample()
  jax.tree.map(
    np.testing.assert_array_equal,
    client.update(KEY, message, batch),
    client.update(jax.random.key(9), message, batch),
  )


def test_a_net_that_somebody_else_wrote_has_moments():
  spec = models.make_spec('plain', (2, 2, 1), K, 'none')
  net = from_callable.from_callable(
    lambda key: jnp.ones((4, K)), lambda w, x: x.reshape(-1, 4) @ w, spec
  )
  client, batch = fedsgd.fedsgd(net, TASK), sample()[1]
  message = types.ServerMessage(net.init(KEY))
  update, _ = client.update(KEY, message, batch)
  assert update.delta.shape == (4, K)
  found, _ = client.moments(KEY, message, batch, update.delta)
  np.testing.assert_allclose(found.dot[''], found.squared[''], rtol=1e-5)
  assert fedsgd.fedsgd(net._replace(probe=None), TASK).moments is None
