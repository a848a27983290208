"""Tests of giajax.metrics.ssim_range6."""

import numpy as np
import pytest
import scipy.ndimage

from giajax import types
from giajax.data import coco_folder
from giajax.metrics import ssim
from giajax.metrics import ssim_range6
from tests.metrics import scoring_test


def test_it_is_the_ssim_of_images_that_are_six_times_darker():
  rng = np.random.default_rng(0)
  a, b = rng.uniform(size=(2, 3, 16, 16, 3)).astype(np.float32)
  audited = scoring_test._audited()
  found = ssim_range6.prepare(audited, True)(a, b)
  assert found.shape == (3,)
  np.testing.assert_allclose(found, ssim.ssim(a / 6, b / 6), rtol=1e-5)
  grey = ssim_range6.prepare_grey(audited, True)(types.Batch(a, None))
  np.testing.assert_allclose(grey, ssim.ssim(a / 6, 0 * a + 0.5 / 6), rtol=1e-4)


def test_guesses_score_as_in_the_study_of_detectors(shared_data):
  """Black bars, images in [0, 1]: what was measured with torch's SSIM."""
  data = coco_folder.load(path=shared_data / 'coco', size=256, fill=0)
  x = np.asarray(data.take(range(data.size)).x)
  score = ssim_range6.prepare(scoring_test._audited(), True)
  guesses = {
    0.51: np.full_like(x, 0.5),
    0.55: np.broadcast_to(x.mean((1, 2), keepdims=True), x.shape),
    0.33: np.zeros_like(x),
    0.84: scipy.ndimage.gaussian_filter(x, (0, 8, 8, 0)),
  }
  for expected, guess in guesses.items():
    found = float(np.mean(score(x, guess)))
    assert found == pytest.approx(expected, abs=0.01)
