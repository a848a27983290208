"""Tests of giajax.defenses.quantization."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.defenses import quantization


def test_one_bit_is_the_sign_times_the_mean_magnitude(sent):
  found = sent(quantization.quantization(bits=1), [1.0, -2.0, 3.0])
  np.testing.assert_allclose(found, [2.0, -2.0, 2.0])


def test_two_bits_have_three_levels(sent):
  found = sent(quantization.quantization(bits=2), [4.0, 1.9, -2.1, -0.1])
  np.testing.assert_allclose(found, [4.0, 0.0, -4.0, 0.0])


@pytest.mark.parametrize('bits', [3, 8])
def test_levels_and_error(sent, bits):
  leaf = np.random.default_rng(0).normal(size=2000).astype(np.float32)
  found = np.asarray(sent(quantization.quantization(bits=bits), leaf))
  step = np.abs(leaf).max() / (2 ** (bits - 1) - 1)
  assert np.abs(found - leaf).max() <= step / 2 * 1.0001
  assert len(np.unique(np.round(found / step))) <= 2**bits - 1


def test_stochastic_rounding_keeps_the_mean(sent):
  leaf = np.full(4000, 0.3, np.float32)
  leaf[0] = 1.0
  found = sent(quantization.quantization(bits=2, stochastic=True), leaf)
  assert set(np.unique(found)) == {0.0, 1.0}
  np.testing.assert_allclose(found.mean(), 0.3, atol=0.03)


def test_a_leaf_of_zeros_stays(sent):
  for bits in (1, 4):
    found = sent(quantization.quantization(bits=bits), np.zeros(3))
    np.testing.assert_array_equal(found, 0)


def test_belief_has_a_slope(sent):
  guard = quantization.quantization(bits=1)
  slope = jax.grad(lambda w: sent(guard, w, believed=True).sum())(jnp.ones(3))
  np.testing.assert_array_equal(slope, 1)


@pytest.mark.parametrize(
  ('kwargs', 'words'),
  [
    ({'bits': 0}, 'bits=0'),
    ({'bits': 1, 'stochastic': True}, 'stochastic=True'),
  ],
)
def test_bad_arguments(kwargs, words):
  with pytest.raises(ValueError, match=words):
    quantization.quantization(**kwargs)
