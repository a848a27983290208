"""Tests of giajax.priors.epoch_order."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from giajax import world as worlds
from giajax.clients import fedsgd
from giajax.models.classification import mlp
from giajax.priors import epoch_order
from giajax.tasks import classification

NET = mlp.mlp((2, 2, 3), 3, normalisation='cifar10')
TASK = classification.classification(3)
WORLD = worlds.World(NET, TASK, fedsgd.fedsgd(NET, TASK), 2)
X = jax.random.uniform(jax.random.key(0), (6, 2, 2, 3))


def prior(x, epochs):
  term = epoch_order.epoch_order(WORLD, epochs=epochs)
  return float(term.value(None, types.Batch(x, None), None, None))


def test_sum_over_pairs_of_epochs():
  z = (np.asarray(X, np.float64) - NET.spec.mean) / NET.spec.std
  means = z.reshape(3, 2, 2, 2, 3).mean(1)
  pairs = itertools.product(means, means)
  wanted = sum(np.mean((a - b) ** 2) for a, b in pairs) / 9
  np.testing.assert_allclose(prior(X, 3), wanted, rtol=1e-5)


def test_the_order_within_an_epoch_does_not_matter():
  one = X[:3]
  both = jnp.concatenate([one, one[jnp.array([2, 0, 1])]])
  assert prior(both, 2) < 1e-12 < prior(X, 2)
  assert prior(X, 1) == 0


def test_mistake():
  with pytest.raises(
    ValueError, match=r'^Expected a whole number from 1 to .* for epochs'
  ):
    epoch_order.epoch_order(WORLD, epochs=0)
