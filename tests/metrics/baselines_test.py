"""Tests of giajax.metrics.baselines."""

import numpy as np
import pytest

from giajax.data import photographs
from giajax.metrics import baselines
from giajax.metrics import pixel

SAMPLE = np.arange(3 * 2 * 2 * 1, dtype=np.float32).reshape(3, 2, 2, 1) / 12


def test_mean_image_fills_every_slot():
  found = baselines.mean_image(SAMPLE, 4)
  assert found.shape == (4, 2, 2, 1)
  np.testing.assert_allclose(found, np.stack([SAMPLE[1]] * 4), rtol=1e-6)


def test_other_images_cycle_through_the_sample():
  found = baselines.other_images(SAMPLE, 5)
  np.testing.assert_array_equal(found, SAMPLE[[0, 1, 2, 0, 1]])


def test_the_mean_beats_other_images_in_expectation():
  x = np.asarray(photographs.load(size=16).take(np.arange(16)).x)
  mean = pixel.mse(x, baselines.mean_image(x, 16))
  other = np.mean(
    [pixel.mse(x, np.roll(x, shift, axis=0)) for shift in range(1, 16)]
  )
  # In a sample that contains the truth, other / mean = 2 S / (S - 1).
  np.testing.assert_allclose(other / np.mean(mean), 2 * 16 / 15, rtol=1e-4)


@pytest.mark.parametrize('baseline', ['mean_image', 'other_images'])
@pytest.mark.parametrize('shape', [(0, 2, 2, 1), (2, 2, 1)])
def test_samples_must_be_stacks(baseline, shape):
  with pytest.raises(ValueError, match='Expected a sample'):
    getattr(baselines, baseline)(np.zeros(shape), 2)
