"""Tests of giajax.priors.group_consistency."""

import jax
import numpy as np

from giajax import types
from giajax import world as worlds
from giajax.models.classification import mlp
from giajax.priors import group_consistency


def test_by_hand():
  net = mlp.mlp((2, 3, 3), 4, widths=(2,), normalisation='cifar10')
  world = worlds.World(net, None, None, 2)
  term = group_consistency.group_consistency(world)
  assert term.group
  x = jax.random.uniform(jax.random.key(0), (5, 2, 2, 3, 3))

  @jax.value_and_grad
  def value(x):
    return term.value(None, types.Batch(x, None), None, None)

  found, slope = jax.vmap(value, axis_name=worlds.RESTARTS)(x)
  std = np.array(net.spec.std)
  apart = np.asarray(x - x.mean(0)) / std
  np.testing.assert_allclose(found, (apart**2).mean((1, 2, 3, 4)), rtol=1e-4)
  # The mean is no function of the candidate.
  size = apart[0].size
  np.testing.assert_allclose(
    slope, 2 * apart / std / size, rtol=1e-3, atol=1e-6
  )
