"""Tests of giajax.metrics.gradient_similarity."""

import jax
import jax.numpy as jnp
import numpy as np

from giajax import types
from giajax.metrics import gradient_similarity
from giajax.models.classification import mlp
from giajax.tasks import classification

NET = mlp.mlp((2, 2, 1), 3, widths=())
TASK = classification.classification(3)
VARIABLES = NET.init(jax.random.key(0))


def similarity(x, y):
  measure = gradient_similarity.gradient_similarity(NET, TASK)
  return np.asarray(measure(VARIABLES, types.Batch(x, jnp.asarray(y))))


def test_softmax_regression_by_hand():
  """g_i = [x_i; 1] (p_i - y_i)', in float64."""
  x = jax.random.uniform(jax.random.key(1), (4, 2, 2, 1))
  y = [0, 1, 2, 0]
  layer = VARIABLES.params['layers']['0']
  w, b = (np.asarray(layer[n], np.float64) for n in ('kernel', 'bias'))
  flat = np.asarray(x, np.float64).reshape(4, 4)
  z = flat @ w + b
  error = np.exp(z) / np.exp(z).sum(1, keepdims=True) - np.eye(3)[y]
  inputs = np.concatenate([flat, np.ones((4, 1))], 1)
  g = np.einsum('bi,bk->bik', inputs, error).reshape(4, -1)
  mean = g.mean(0)
  wanted = g @ mean / np.linalg.norm(g, axis=1) / np.linalg.norm(mean)
  np.testing.assert_allclose(similarity(x, y), wanted, atol=1e-5)


def test_copies_are_alike():
  x = jax.random.uniform(jax.random.key(1), (1, 2, 2, 1))
  found = similarity(jnp.concatenate([x, x, x]), [1, 1, 1])
  np.testing.assert_allclose(found, 1.0, atol=1e-5)
