"""Tests of giajax.models.parts.spectral against numpy."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from giajax import types
from giajax.models import layers
from giajax.models.parts import spectral


def largest(kernel):
  """Returns the largest singular value of a kernel as a matrix."""
  matrix = np.asarray(kernel).reshape(-1, kernel.shape[-1])
  return np.linalg.norm(matrix, ord=2)


def test_the_power_iteration_finds_the_largest_singular_value():
  conv = spectral.SpectralConv(3, 4, 3, 1, 1, rngs=nnx.Rngs(0))
  kernel, bias = conv.kernel[...], conv.bias[...]
  variables = types.Variables({'a': {'kernel': kernel}}, {})
  u0 = conv.u0[...]
  for _ in range(100):
    stats = {'a': {'u0': u0, 'mean': jnp.ones(4)}}
    renewed = spectral.renewed(variables._replace(stats=stats))
    assert renewed['a']['mean'] is stats['a']['mean']
    u0 = renewed['a']['u0']
  conv.u0[...] = u0
  x = jax.random.normal(jax.random.key(0), (1, 4, 4, 3))
  plain = layers.Conv(3, 4, 3, 1, 1, rngs=nnx.Rngs(0))
  plain.kernel[...], plain.bias[...] = kernel / largest(kernel), bias
  np.testing.assert_allclose(conv(x), plain(x), rtol=1e-4, atol=1e-5)


def test_no_derivative_goes_through_the_vectors():
  conv = spectral.SpectralConv(2, 3, 3, 1, 1, rngs=nnx.Rngs(0))
  graphdef, stats, rest = nnx.split(conv, nnx.BatchStat, ...)
  x = jnp.ones((1, 4, 4, 2))

  def value(stats):
    return nnx.merge(graphdef, stats, rest)(x).sum()

  for leaf in jax.tree.leaves(jax.grad(value)(stats)):
    assert not leaf.any()
