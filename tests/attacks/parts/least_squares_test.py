"""Tests of giajax.attacks.parts.least_squares."""

import jax.numpy as jnp
import numpy as np

from giajax.attacks.parts import least_squares


def test_least_squares_are_those_of_numpy():
  matrix = np.random.default_rng(0).normal(size=(9, 5))
  wanted = np.random.default_rng(1).normal(size=9)
  system = least_squares.LinearSystem(
    lambda x: (matrix[:6] @ x, matrix[6:] @ x),
    lambda rows: matrix.T @ jnp.concatenate(rows),
    (jnp.asarray(wanted[:6]), jnp.asarray(wanted[6:])),
  )
  x, residual = least_squares.solve(system, 20)
  expected, error, *_ = np.linalg.lstsq(matrix, wanted)
  np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(residual, error[0] / (wanted @ wanted), rtol=1e-4)
