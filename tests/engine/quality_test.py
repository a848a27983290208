"""Tests of giajax.engine.quality."""

import numpy as np

from giajax.engine import quality


def test_frechet_distance_of_gaussians():
  """Of N(0, 4) and N(3, 1) along an axis, and twice N(1, 1) along another."""
  rng = np.random.default_rng(0)
  one = rng.normal(size=(200_000, 2)) * [2, 1] + [0, 1]
  two = rng.normal(size=(200_000, 2)) * [1, 1] + [3, 1]
  wanted = 3**2 + (2 - 1) ** 2
  np.testing.assert_allclose(quality.frechet(one, two), wanted, rtol=0.02)
  assert abs(quality.frechet(one, one)) < 1e-9


def test_frechet_distance_does_not_depend_on_the_axes():
  """Rotations of both sets, whose covariances do not commute."""
  rng = np.random.default_rng(0)
  one = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 3))
  two = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 3))
  turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
  turned = quality.frechet(one @ turn, two @ turn)
  np.testing.assert_allclose(turned, quality.frechet(one, two), rtol=1e-9)
  np.testing.assert_allclose(turned, quality.frechet(two, one), rtol=1e-9)
