"""Tests of giajax.metrics.baselines."""

import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from giajax.data import photographs
from giajax.metrics import baselines
from giajax.metrics import METRICS

IMAGES = np.arange(5 * 2 * 2 * 1, dtype=np.float32).reshape(5, 2, 2, 1) / 20


def _take(indices):
  indices = np.asarray(indices)
  return types.Batch(jnp.asarray(IMAGES[indices]), jnp.asarray(indices))


def test_mean_image_is_that_of_the_sample_without_the_batch():
  seen = baselines.sample(_take, [4, 0, 1, 3])
  batch = [1, 2, 4]  # of which 2 is not in the sample
  found = baselines.mean_image(seen, batch, IMAGES[batch])
  expected = np.stack([IMAGES[[0, 3]].mean(0)] * 3)
  assert found is not None and found.dtype == np.float32
  np.testing.assert_allclose(found, expected, atol=1e-7)


def test_a_batch_that_is_the_sample_leaves_nothing():
  seen = baselines.sample(_take, [1, 3])
  assert baselines.mean_image(seen, [3, 1, 0], IMAGES[[3, 1, 0]]) is None


def test_a_sample_is_read_in_blocks():
  calls = []

  def take(indices):
    calls.append(len(indices))
    return _take(np.asarray(indices) % 5)

  seen = baselines.sample(take, np.arange(80))
  assert calls == [32, 32, 16]
  np.testing.assert_allclose(seen.total, 16 * IMAGES.sum(0), rtol=1e-6)


def test_the_nearest_is_none_of_the_batch():
  reference = baselines.auxiliary(_take, [4, 0, 2, 1])
  x = IMAGES[[1, 4]] + np.float32(0.03)  # between two images each
  found = baselines.nearest(reference, x)
  assert found is not None and found.tolist() == [1, 4]
  found = baselines.nearest(reference, IMAGES[[1, 4]])
  assert found is not None and found.tolist() == [0, 2]
  everything = baselines.auxiliary(_take, [1, 4])
  assert baselines.nearest(everything, IMAGES[[1, 4]]) is None


def test_images_are_the_same_at_256_levels():
  reference = baselines.auxiliary(_take, [0, 2])
  for x, same in (
    (IMAGES[[1, 2]], True),
    (IMAGES[[2]] + np.float32(0.0005), True),
    (IMAGES[[2]] + np.float32(0.005), False),
    (IMAGES[[1, 3]], False),
  ):
    assert reference.contains(x) == same


def test_auxiliary_images_are_images():
  wrong = types.Batch(255 * IMAGES, np.arange(5))
  with pytest.raises(ValueError, match='Expected the auxiliary images in'):
    baselines.auxiliary(lambda i: wrong, [1])


def test_other_images_cycle():
  found = baselines.other_images(IMAGES[:3], 5)
  np.testing.assert_array_equal(found, IMAGES[[0, 1, 2, 0, 1]])


def test_the_mean_beats_other_images_in_expectation():
  data = photographs.load(size=16)
  x = np.asarray(data.take(np.arange(16)).x)
  seen = baselines.sample(data.take, np.arange(16))
  errors = [
    METRICS['mse'].score(x[i], baselines.mean_image(seen, [i], x[i : i + 1])[0])
    for i in range(16)
  ]
  other = np.mean(
    [
      METRICS['mse'].score(x, np.roll(x, shift, axis=0))
      for shift in range(1, 16)
    ]
  )
  # Of n = S - 1 images without the truth, other / mean = 2 n / (n + 1).
  np.testing.assert_allclose(other / np.mean(errors), 2 * 15 / 16, rtol=1e-4)


@pytest.mark.parametrize('indices', [[], [[1]]])
def test_samples_are_lists_of_images(indices):
  with pytest.raises(ValueError, match='Expected indices'):
    baselines.sample(_take, np.array(indices, int))


@pytest.mark.parametrize('shape', [(0, 2, 2, 1), (2, 2, 1)])
def test_other_images_are_a_stack(shape):
  with pytest.raises(ValueError, match='Expected images'):
    baselines.other_images(np.zeros(shape), 2)
