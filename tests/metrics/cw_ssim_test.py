"""Tests of giajax.metrics.cw_ssim against pytorch_wavelets and by hand."""

import pathlib

import jax
import numpy as np
import pytest

from giajax.data import photographs
from giajax.metrics import cw_ssim
from giajax.metrics import METRICS

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'metrics'
SHAPES = ('32x32x3', '30x21x3', '64x48x1', '5x3x1')

measure = jax.jit(cw_ssim.cw_ssim)


@pytest.fixture(scope='module')
def x():
  """Returns four photographs of 32 pixels."""
  return np.asarray(photographs.load(size=32).take([0, 1, 2, 3]).x)


@pytest.mark.parametrize('shape', SHAPES)
def test_equals_pytorch_wavelets(shape):
  with np.load(GOLDEN / 'cw_ssim.npz') as golden:
    a, b, value = (golden[f'{shape}/{n}'] for n in ('a', 'b', 'value'))
  found = measure(a / 255, b / 255)
  np.testing.assert_allclose(found, value, atol=2e-6)


def test_no_other_image_is_as_similar(x):
  np.testing.assert_allclose(measure(x, x), 1, rtol=1e-6)
  others = np.asarray(measure(x, x[::-1]))
  assert others.dtype == np.float32
  assert np.all((others > 0) & (others < 0.7))
  np.testing.assert_allclose(others, others[::-1], rtol=1e-5)  # symmetric


def test_shift_costs_less_than_in_ssim(x):
  """The reason for the metric; brightness is not seen at all."""
  shifted = np.roll(x, 1, axis=2)
  cost = 1 - np.asarray(measure(x, shifted))
  assert np.all(
    cost < 0.6 * (1 - np.asarray(METRICS['ssim'].score(x, shifted)))
  )
  np.testing.assert_allclose(measure(x, x + 0.2), 1, atol=1e-4)


def test_axes_vmap_broadcasting_and_nan(x):
  y = x[::-1].copy()
  y[2, 16, 16] = np.nan
  expected = np.asarray(measure(x, y))
  np.testing.assert_array_equal(np.isnan(expected), [0, 0, 1, 0])
  mapped = jax.jit(jax.vmap(cw_ssim.cw_ssim))(x, y)
  np.testing.assert_allclose(mapped, expected, rtol=1e-5)
  pairs = np.asarray(measure(x[:, None], y[None]))
  assert pairs.shape == (4, 4)
  np.testing.assert_allclose(np.diag(pairs), expected, rtol=1e-5)
