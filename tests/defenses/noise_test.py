"""Tests of giajax.defenses.noise."""

import constant_client
import jax
import numpy as np
import pytest

from giajax.defenses import noise


@pytest.mark.parametrize('scale', [0.01, 1.0, 30.0])
def test_statistics_in_both_directions(scale):
  entries = constant_client.sent(noise.gaussian_noise(scale=scale))
  assert constant_client.has_deviation(entries, 2, scale)
  # The test would notice ten percent more, or less, or a shift.
  assert not constant_client.has_deviation(entries, 2, 1.1 * scale)
  assert not constant_client.has_deviation(entries, 2, 0.9 * scale)
  assert not constant_client.has_deviation(entries, 2 + 0.2 * scale, scale)
  # A normal, by the fourth moment: 3, where a uniform has 1.8.
  kurtosis = np.mean(((entries - 2) / scale) ** 4)
  np.testing.assert_allclose(kurtosis, 3, atol=0.6)


def test_entries_and_leaves_are_independent():
  entries = constant_client.sent(noise.gaussian_noise(scale=1.0)) - 2
  rows, last = entries[:2000].reshape(40, 50), entries[2000:]
  for a, b in ((rows[::2], rows[1::2]), (rows[:20].ravel(), last)):
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4.5 / np.sqrt(1000)


def test_the_key_decides():
  defense = noise.gaussian_noise(scale=1.0)
  np.testing.assert_array_equal(
    constant_client.sent(defense), constant_client.sent(defense)
  )
  other = np.corrcoef(
    constant_client.sent(defense), constant_client.sent(defense, seed=1)
  )[0, 1]
  assert abs(other) < 4.5 / np.sqrt(3000)


def test_zero_scale_is_the_update():
  np.testing.assert_array_equal(
    constant_client.sent(noise.gaussian_noise(scale=0)), np.full(3000, 2.0)
  )


def test_only_the_delta_is_noisy():
  defense = noise.gaussian_noise(scale=1.0)
  client = defense.on_client(constant_client.constant())
  update, _ = client.update(
    jax.random.key(0), constant_client.MESSAGE, constant_client.BATCH
  )
  np.testing.assert_array_equal(update.stats['bn'], np.ones(3))
  assert int(update.size) == 1 and client.train_mode


def test_moments_are_withdrawn():
  defense = noise.gaussian_noise(scale=1.0)
  assert defense.on_client(constant_client.constant()).moments is None


@pytest.mark.parametrize(
  'scale', [-1.0, float('nan'), float('inf'), True, False]
)
@pytest.mark.parametrize('row', [noise.gaussian_noise, noise.laplace_noise])
def test_refused_scales(row, scale):
  with pytest.raises(ValueError, match=f'scale={scale}'):
    row(scale=scale)


def test_laplace_has_its_deviation_and_its_tails():
  entries = constant_client.sent(noise.laplace_noise(scale=0.7)) - 2
  np.testing.assert_allclose(entries.std(), 0.7, rtol=0.1)
  assert abs(entries.mean()) < 0.05
  kurtosis = np.mean((entries / entries.std()) ** 4)
  assert 4.5 < kurtosis < 8  # 6, where a normal has 3
  other = constant_client.sent(noise.laplace_noise(scale=0.7), seed=1) - 2
  assert np.abs(entries - other).max() > 0.1
