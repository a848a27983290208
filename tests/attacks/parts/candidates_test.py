"""Tests of giajax.attacks.parts.candidates."""

import jax
import jax.numpy as jnp
import numpy as np

from giajax.attacks.parts import candidates

IMAGES = jax.random.uniform(jax.random.key(0), (3, 4, 4, 3))


def test_repeated_before_single_before_mixed():
  """Twice the second image, a mixture outside [0, 1], and nothing."""
  mixture = 3 * IMAGES[:1] - 1
  x = jnp.concatenate([mixture, IMAGES[:2], IMAGES[1:2] + 1e-4, 0 * IMAGES[:1]])
  mass = jnp.array([5.0, 4.0, 3.0, 2.0, 0.0])
  result = candidates.reconstruction(candidates.Candidates(x, mass), 4, 3)
  np.testing.assert_allclose(result.batch.x[0], IMAGES[1], atol=1e-3)
  np.testing.assert_array_equal(result.batch.x[1], IMAGES[0])
  np.testing.assert_array_equal(result.batch.x[2], jnp.clip(mixture[0], 0, 1))
  assert result.valid.tolist() == [True, True, True, False]
  assert result.batch.y.tolist() == [-1] * 4
  # Two of three images look like images.
  np.testing.assert_allclose(result.score, 1 / 3, rtol=1e-6)


def test_nothing_is_claimed_of_nothing():
  x, mass = jnp.zeros((3, 4, 4, 3)), jnp.zeros(3)
  result = candidates.reconstruction(candidates.Candidates(x, mass), 2, 3)
  assert not result.valid.any() and result.score == 1
