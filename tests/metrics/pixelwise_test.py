"""Tests of MSE, PSNR and SSIM against scikit-image and by hand."""

import jax
import numpy as np
import pytest
import skimage.metrics

from giajax.data import photographs
from giajax.metrics import METRICS
from giajax.metrics import psnr as psnr_metric


def pairs(size=32, channels=3, noise=0.1):
  dataset = photographs.load(size=size, channels=channels)
  a = np.asarray(dataset.take([0, 1, 2, 3]).x)
  key = np.random.default_rng(0)
  b = a + noise * key.standard_normal(a.shape).astype(np.float32)
  return a, np.clip(b, 0, 1)


def test_mse_and_psnr_by_hand():
  a = np.zeros((2, 4, 4, 3), np.float32)
  b = np.stack([np.full((4, 4, 3), 0.1), np.ones((4, 4, 3))])
  np.testing.assert_allclose(METRICS['mse'].score(a, b), [0.01, 1], rtol=1e-6)
  np.testing.assert_allclose(METRICS['psnr'].score(a, b), [20, 0], atol=1e-5)


def test_exact_match_has_the_cap_and_no_more():
  a, _ = pairs()
  np.testing.assert_allclose(
    METRICS['psnr'].score(a, a), psnr_metric.CAP, rtol=1e-6
  )
  np.testing.assert_allclose(METRICS['ssim'].score(a, a), 1, rtol=1e-6)


def test_psnr_falls_with_the_error():
  a = np.zeros((4, 4, 1), np.float32)
  errors = np.logspace(-7, 1, 50)
  values = [float(METRICS['psnr'].score(a, a + e)) for e in errors]
  assert np.all(np.diff(values) <= 0)
  assert values[0] == pytest.approx(psnr_metric.CAP)
  assert values[-1] == pytest.approx(-20)


@pytest.mark.parametrize(('size', 'channels'), [(32, 3), (32, 1), (11, 3)])
def test_equals_scikit_image(size, channels):
  a, b = pairs(size, channels)
  psnr, ssim = METRICS['psnr'].score(a, b), METRICS['ssim'].score(a, b)
  for i in range(len(a)):
    expected = skimage.metrics.peak_signal_noise_ratio(a[i], b[i], data_range=1)
    np.testing.assert_allclose(psnr[i], expected, rtol=1e-4)
    expected = skimage.metrics.structural_similarity(
      a[i].astype(np.float64),
      b[i].astype(np.float64),
      data_range=1,
      channel_axis=-1,
      gaussian_weights=True,
      use_sample_covariance=False,
    )
    np.testing.assert_allclose(ssim[i], expected, atol=1e-4)


@pytest.mark.parametrize('size', [2, 7, 10])
def test_ssim_of_small_images_is_a_similarity(size):
  a, b = pairs(size)
  np.testing.assert_allclose(METRICS['ssim'].score(a, a), 1, rtol=1e-5)
  assert np.all(np.asarray(METRICS['ssim'].score(a, b)) < 1)


def test_rows_of_a_table_have_no_structure():
  a, b = pairs(1)
  for name in ('ssim', 'cw_ssim'):
    assert np.isnan(METRICS[name].score(a, b)).all()
  assert np.isfinite(METRICS['psnr'].score(a, b)).all()


@pytest.mark.parametrize(
  'metric', [METRICS['mse'].score, METRICS['psnr'].score, METRICS['ssim'].score]
)
def test_axes_vmap_and_broadcasting(metric):
  a, b = pairs()
  expected = np.asarray(metric(a, b))
  assert expected.shape == (4,)
  nested = metric(a.reshape(2, 2, 32, 32, 3), b.reshape(2, 2, 32, 32, 3))
  np.testing.assert_allclose(np.ravel(nested), expected, rtol=1e-5)
  mapped = jax.jit(jax.vmap(metric))(a, b)
  np.testing.assert_allclose(mapped, expected, rtol=1e-5)
  assert metric(a[:, None], b[None]).shape == (4, 4)
  assert metric(a[0], b[0]).shape == ()


@pytest.mark.parametrize(
  'metric', [METRICS['mse'].score, METRICS['psnr'].score, METRICS['ssim'].score]
)
def test_nan_is_not_hidden(metric):
  a, b = pairs()
  b[1, 16, 16] = np.nan
  np.testing.assert_array_equal(
    np.isnan(metric(a, b)), [False, True, False, False]
  )


@pytest.mark.parametrize('name', ['mse', 'psnr', 'ssim'])
def test_bytes_are_refused(name):
  """Their range is not [0, 1]: PSNR would be -19.9 dB for 28.2."""
  x = np.zeros((2, 12, 12, 1), np.uint8)
  with pytest.raises(ValueError, match='as floats; got dtype=uint8; divide'):
    jax.jit(METRICS[name].score)(x, x)
  with pytest.raises(ValueError, match='as floats'):
    METRICS[name].score(x / np.float32(255), x)


def test_shapes_that_do_not_fit():
  with pytest.raises(ValueError, match='Expected images of one shape'):
    METRICS['psnr'].score(np.zeros((2, 4, 4, 3)), np.zeros((3, 4, 4, 3)))
