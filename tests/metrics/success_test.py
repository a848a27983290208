"""Tests of giajax.metrics.success: answers known by hand."""

import numpy as np
import pytest

from giajax.metrics import success


def _shares(true, found):
  true, found = np.array(true, int), np.array(found, int)
  equal = (true[:, None] == found[None]).astype(float)
  return np.where(found < 0, np.nan, equal)


@pytest.mark.parametrize(
  ('true', 'found', 'expected'),
  [
    ([1, 2, 3, 4], [4, 3, 2, 1], 1),
    ([1, 1, 2, 2], [1, 2, 2, 2], 0.75),
    ([1, 1, 1, 1], [1], 0.25),
    ([1, 2], [1, 1, 2, 2], 1),
    ([1, 2], [2, -1], 0.5),
    ([1, 2], [3], 0),
    ([1, 2], [], np.nan),
    ([1, 2], [-1, -1], np.nan),
  ],
)
def test_recovered_labels_are_the_overlap_of_multisets(true, found, expected):
  share = success.labels_recovered(_shares(true, found))
  np.testing.assert_equal(share, expected)


def test_matched_labels_follow_the_slots():
  shares = _shares([5, 6, 7, 8], [6, 5, 7, 8])
  matched = success.labels_matched
  assert matched(shares, [1, 0, 2, 3]) == 1
  assert matched(shares, [0, 1, 2, 3]) == 0.5
  # Unmatched is wrong, even where the last slot's label would fit.
  assert matched(shares, [1, 0, 2, -1]) == 0.75
  assert np.isnan(matched(_shares([5, 6, 7, 8], [-1] * 4), [0, 1, 2, 3]))


def test_targets_in_part_count_in_part():
  shares = np.array([[0.5, 0.9, np.nan], [0.0, 1.0, np.nan]])
  # The first takes what it shares less with, as the second then has more.
  assert success.labels_recovered(shares) == pytest.approx(0.75)
  assert success.labels_matched(shares, [1, 2]) == pytest.approx(0.45)


def test_success_rate_counts_failures():
  psnr = [[18.0, 17.9], [np.nan, 30.0]]
  assert success.success_rate(psnr, 18.0) == 0.5
  assert success.success_rate([-np.inf, np.inf], 0.0) == 0.5


@pytest.mark.parametrize(
  ('psnr', 'ssim', 'baseline_psnr', 'baseline_ssim', 'word'),
  [
    (25.0, 0.8, 12.0, 0.1, 'leaks'),
    (18.0, 0.5, 15.0, 0.4, 'leaks'),  # every threshold is met exactly
    (17.9, 0.8, 12.0, 0.1, 'partial'),
    (25.0, 0.4, 12.0, 0.1, 'partial'),
    (25.0, 0.9, 23.0, 0.9, 'partial'),  # the data set is nearly constant
    (25.0, 0.9, 24.9, 0.9, 'resists'),
    (12.9, 0.19, 12.0, 0.1, 'resists'),
    (13.0, 0.05, 12.0, 0.1, 'partial'),
    (9.0, 0.3, 12.0, 0.1, 'partial'),  # structure without brightness
    (5.0, 0.0, 12.0, 0.1, 'resists'),
    (np.nan, np.nan, 12.0, 0.1, 'resists'),
  ],
)
def test_verdict(psnr, ssim, baseline_psnr, baseline_ssim, word):
  found = success.verdict(
    psnr=psnr,
    ssim=ssim,
    baseline_psnr=baseline_psnr,
    baseline_ssim=baseline_ssim,
  )
  assert found.word == word
  assert f'{baseline_psnr:.1f} dB' in found.reason
  assert found.reason.endswith('.')


@pytest.mark.parametrize('share', [np.nan, 1e-3, 1e-9])
def test_what_is_faint_is_not_called_safe(share):
  scores = dict(ssim=0.1, baseline_psnr=12.0, baseline_ssim=0.1)
  found = success.verdict(psnr=12.0, **scores, image_share=share)
  assert found.word == 'resists'
  assert ('a cosine of only 1e-09' in found.reason) == (share == 1e-9)
  found = success.verdict(psnr=14.0, **scores, image_share=share)
  assert found.word == 'partial' and 'cosine' not in found.reason


def test_verdict_takes_medians_and_counts_failures():
  kwargs = {'baseline_psnr': [12, 12, 90], 'baseline_ssim': [0.1]}
  good, bad = [30, 28, 5], [30, np.nan, np.nan]
  assert success.verdict(psnr=good, ssim=0.9, **kwargs).word == 'leaks'
  assert success.verdict(psnr=bad, ssim=0.1, **kwargs).word == 'resists'
  with pytest.raises(ValueError, match='at least one score'):
    success.verdict(psnr=[], ssim=0.1, **kwargs)


def test_images_near_the_threshold():
  """A face of 17.5 dB and SSIM .74 is near it, and the verdict says so."""
  psnr, ssim = [18.0, 17.5, 17.5, 15.9, 30.0], [0.5, 0.74, 0.39, 0.9, 0.9]
  np.testing.assert_array_equal(
    success.recognised(psnr, ssim, 12.0), [1, 0, 0, 0, 1]
  )
  np.testing.assert_array_equal(success.near(psnr, ssim, 12.0), [0, 1, 0, 0, 0])
  np.testing.assert_array_equal(success.near(psnr, ssim, 27.5), [0, 0, 0, 0, 1])
  assert success.recognised(18.0, 0.5, np.nan)  # nothing to compare with
  found = success.verdict(
    psnr=17.5, ssim=0.74, baseline_psnr=12, baseline_ssim=0.1
  )
  assert found.word == 'partial' and 'near the threshold' in found.reason


@pytest.mark.parametrize(
  ('psnr', 'word'), [(30.0, 'leaks'), (14.0, 'partial'), (12.0, 'untested')]
)
def test_only_what_finds_nothing_is_untested(psnr, word):
  found = success.verdict(
    psnr=psnr,
    ssim=0.6 if psnr > 20 else 0.1,
    baseline_psnr=12.0,
    baseline_ssim=0.1,
    degenerate='the update is zero',
  )
  assert found.word == word
  assert ('the update is zero' in found.reason) == (word == 'untested')
  assert word in success.WORDS


def test_verdict_grows_with_the_psnr():
  order = ['resists', 'partial', 'leaks']
  words = [
    success.verdict(
      psnr=p, ssim=0.6, baseline_psnr=13.0, baseline_ssim=0.55
    ).word
    for p in np.linspace(5, 40, 71)
  ]
  ranks = [order.index(word) for word in words]
  assert ranks == sorted(ranks)
  assert set(words) == set(order)
