"""What the scores of an attack mean.

A judgement is about one attack under the grants of one threat model. 'resists'
therefore never means that nothing leaks, only that this attack found no more
than a guess would. Labels are judged apart from images.
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.optimize

# 'leaks' asks for both of these medians. A convention between published
# figures: 'Inverting gradients' on CIFAR-10 falls from 22 dB and SSIM .74 for
# one image, where the content is plain, to 12.6 dB and .36 for 32, where it is
# not. 18 dB is an error of 32 grey levels.
LEAK_PSNR = 18.0  # dB
LEAK_SSIM = 0.5
# ... and for this lead over the best baseline, half its squared error, because
# on flat or similar images a guess alone reaches high values.
LEAK_MARGIN = 3.0  # dB
# An image that misses these by at most this much is near them: a person who
# looks at it may well recognise it.
NEAR_PSNR = 2.0  # dB, of the PSNR and of its lead
NEAR_SSIM = 0.1
# 'partial' asks for either of these leads: a fifth off the squared error, or
# structure that no baseline has.
PARTIAL_MARGIN_PSNR = 1.0  # dB
PARTIAL_MARGIN_SSIM = 0.1

# Of an update, the share that depends on its images, see `image_share`: less is
# hardly above what rounding leaves of a cosine of float32, 1e-7.
LEAST_SHARE = 1e-6

# A closed form solves for an update if its objective is this part of that for
# noise.
_FITS = 0.5

# Every word of a judgement, the gravest first.
WORDS = {
  'leaks': 'the images can be recognised in what came back',
  'partial': 'more came back than a guess would give',
  'resists': 'this attack found no more than a guess would',
  'unscored': 'nobody knows the images, so what came back was not compared',
  'untested': 'the update could not give its images away',
}


def leaking(words: Sequence[str]) -> float:
  """Returns the share of verdicts that say that something leaks.

  Updates of unknown images do not count; NaN if there are no others.

  Args:
    words: the words of verdicts.
  """
  known = [word for word in words if word != 'unscored']
  leaks = [word in ('leaks', 'partial') for word in known]
  return float(np.mean(leaks)) if known else math.nan


def gravity(word: str) -> int:
  """Returns the place of a word among `WORDS`, behind all for another."""
  order = [*WORDS]
  return order.index(word) if word in order else len(order)


class Judgement(NamedTuple):
  """A one-word judgement and what it rests on."""

  word: str  # of `WORDS`
  reason: str  # one sentence in plain words


def labels_recovered(shares: npt.ArrayLike) -> float:
  """Returns the share of the true targets that was claimed, in any order.

  Each claim counts for one target at most, in the assignment of the largest
  sum. For class labels, this is the overlap of two multisets.

  Args:
    shares: [B, M] the share of target i that claim j has right, B >= 1; NaN for
      a slot that claims none. NaN is returned if none does.
  """
  shares = np.asarray(shares, np.float64)
  claims = ~np.isnan(shares).any(axis=0)
  if not claims.any():
    return math.nan
  own = shares[:, claims]
  return float(own[scipy.optimize.linear_sum_assignment(-own)].sum() / len(own))


def labels_matched(shares: npt.ArrayLike, slots: npt.ArrayLike) -> float:
  """Returns the share of the true targets in the slots of their own images.

  Args:
    shares: as for `labels_recovered`.
    slots: the slot of each image, [B], from `assignment.assign`; an unmatched
      image counts as 0.
  """
  shares, slots = np.asarray(shares, np.float64), np.asarray(slots)
  if np.isnan(shares).all():
    return math.nan
  own = shares[np.arange(len(slots)), slots]
  return float(np.mean(np.where(slots >= 0, np.nan_to_num(own), 0.0)))


def success_rate(psnr: npt.ArrayLike, threshold: float) -> float:
  """Returns the fraction of images at or above a threshold.

  Args:
    psnr: PSNR of each image in dB, any shape, not empty. NaN is a failure.
    threshold: in dB.
  """
  return float(np.mean(np.asarray(psnr) >= threshold))


def recognised(
  psnr: npt.ArrayLike, ssim: npt.ArrayLike, floor: float
) -> np.ndarray:
  """Returns which images pass the thresholds of 'leaks', [...] bool.

  Args:
    psnr: [...] PSNR of each image in dB.
    ssim: [...] SSIM of each image; NaN for rows of a table.
    floor: PSNR of the best baseline in dB; NaN if there is none.
  """
  return _passes(psnr, ssim, floor, 0.0, 0.0)


def near(psnr: npt.ArrayLike, ssim: npt.ArrayLike, floor: float) -> np.ndarray:
  """Returns which images narrowly miss those thresholds, [...] bool.

  Args:
    psnr: as for `recognised`.
    ssim: as for `recognised`.
    floor: as for `recognised`.
  """
  close = _passes(psnr, ssim, floor, NEAR_PSNR, NEAR_SSIM)
  return close & ~recognised(psnr, ssim, floor)


def verdict(
  *,
  psnr: npt.ArrayLike,
  ssim: npt.ArrayLike,
  baseline_psnr: npt.ArrayLike,
  baseline_ssim: npt.ArrayLike,
  degenerate: str = '',
  image_share: float = math.nan,
) -> Judgement:
  """Judges an attack by its medians and those of the best baseline.

  Args:
    psnr: PSNR of each image in dB, or its median. NaN is a failure and counts
      as the lowest value.
    ssim: SSIM of each image, or its median; NaN is treated in the same way,
      except that rows of a table, which have none, are judged by PSNR alone.
    baseline_psnr: as `psnr`, of the baseline with the highest median.
    baseline_ssim: as `ssim`, of the baseline with the highest median.
    degenerate: the reason why the update could not give its images away, from
      `degenerate.reason`; '' where it could.
    image_share: the share of the update that depends on its images, see
      `image_share`; NaN if it was not measured.

  Raises:
    ValueError: one of them holds no score.
  """
  p, s = _median(psnr), _median(ssim)
  p0, s0 = _median(baseline_psnr), _median(baseline_ssim)
  scores = (
    f'median PSNR {p:.1f} dB and SSIM {s:.2f}, against {p0:.1f} dB and '
    f'{s0:.2f} for the best baseline'
  )
  found, recognition = 'The images can be recognised', 'recognition'
  if _has_no_structure(psnr, ssim):
    s = s0 = math.nan  # rows of a table
    found, recognition = 'The rows can be read', 'what can be read'
    scores = f'median PSNR {p:.1f} dB, against {p0:.1f} for the best baseline'
  if recognised(p, s, p0):
    return Judgement('leaks', f'{found} in what came back: {scores}.')
  if near(p, s, p0):
    return Judgement(
      'partial',
      f'What came back is near the threshold of {recognition}, so look at it: '
      f'{scores}.',
    )
  if p - p0 >= PARTIAL_MARGIN_PSNR or s - s0 >= PARTIAL_MARGIN_SSIM:
    return Judgement(
      'partial',
      'More came back than a guess would give, but too little to recognise the '
      f'typical one: {scores}.',
    )
  if degenerate:
    return Judgement(
      'untested', f'Nothing was tested, because {degenerate}: {scores}.'
    )
  reason = (
    'This attack found no more than a guess would, which says nothing about '
    f'stronger attacks: {scores}.'
  )
  if is_faint(image_share):
    reason += (
      ' The update differs from that of noise by a cosine of only '
      f'{image_share:.0e}, less than one in float32 can tell: other attacks, '
      'or the same under other weights, may find more.'
    )
  return Judgement('resists', reason)


def is_faint(share: float) -> bool:
  """Returns whether an update hardly differs from that of noise.

  Args:
    share: of the update that depends on them; NaN if it was not measured.
  """
  return share < LEAST_SHARE


def unscored(
  *,
  score: float,
  start: float,
  noise: float,
  agreement: float,
  degenerate: str = '',
) -> Judgement:
  """Says what an attack on an update with unknown images ended with.

  Args:
    score: the attacker's objective at the end; lower is better.
    start: the objective at the start, NaN for a closed form.
    noise: the objective at the end, for an update of noise; NaN for none.
    agreement: dB, the median PSNR between the images of different restarts, NaN
      for one.
    degenerate: as for `verdict`.
  """
  if degenerate:
    return Judgement('untested', f'Nothing was tested, because {degenerate}.')
  ended = f'its objective is {score:.3g}'
  if math.isfinite(start):
    ended = f'its objective went from {start:.3g} to {score:.3g}'
  if math.isfinite(noise):
    ended += f', and for an update of noise to {noise:.3g}'
  # Noise is no update of any images.
  fits = score < start if math.isfinite(start) else score < _FITS * noise
  did = 'fitted' if fits else 'did not fit'
  reason = f'The attack {did} the update: {ended}.'
  if math.isfinite(agreement):
    reason += (
      f' Its restarts agree with each other to {agreement:.1f} dB; images that '
      'every restart finds are in the update.'
      if agreement >= LEAK_PSNR
      else f' Its restarts end in different images ({agreement:.1f} dB from '
      'each other).'
    )
  return Judgement('unscored', reason)


def _passes(psnr, ssim, floor, less_psnr, less_ssim) -> np.ndarray:
  psnr, ssim = np.asarray(psnr, np.float64), np.asarray(ssim, np.float64)
  # A finite PSNR without SSIM is that of a row, which has no structure.
  alike = np.isnan(ssim) | (ssim >= LEAK_SSIM - less_ssim)
  close = (psnr >= LEAK_PSNR - less_psnr) & alike
  if math.isnan(floor):
    return close
  return close & (psnr - floor >= LEAK_MARGIN - less_psnr)


def _has_no_structure(psnr, ssim) -> bool:
  """Returns whether scores are those of rows of a table."""
  psnr, ssim = (np.asarray(v, np.float64) for v in (psnr, ssim))
  return bool(np.isnan(ssim).all() and not np.isnan(psnr).all())


def _median(scores: npt.ArrayLike) -> float:
  scores = np.asarray(scores, np.float64)
  if not scores.size:
    raise ValueError(
      'Expected at least one score to judge; got an empty array; evaluate at '
      'least one case'
    )
  return float(np.median(np.where(np.isnan(scores), -np.inf, scores)))
