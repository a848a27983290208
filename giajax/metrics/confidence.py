"""How precise a median or mean over images is: a bootstrap interval.

The percentile interval of Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993, by `scipy.stats.bootstrap`. It treats the scores as
independent draws, which images of one batch are not quite, because they share
an update. Very many scores have the interval that it tends to: for a median,
that between two order statistics (H. A. David and H. N. Nagaraja, "Order
Statistics", 2003, section 7.1).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # which loads its parts where they are used

from giajax import registry

_RESAMPLES = 2000
_MANY = 1000  # scores, beyond which resampling takes long and changes nothing
_STATISTICS = {'median': np.median, 'mean': np.mean}


class Interval(NamedTuple):
  """The ends of an interval, both NaN if there is none."""

  low: float
  high: float


def interval(
  scores: npt.ArrayLike,
  *,
  statistic: str = 'median',
  level: float = 0.95,
  seed: int = 0,
) -> Interval:
  """Returns an interval that holds a statistic of all images as often as asked.

  There is no interval if a score is not finite, nor if n is so small that even
  the smallest and the largest score miss the median too often, 2^(1 - n) > 1 -
  level: five and fewer at 0.95.

  Args:
    scores: one score per image, any shape.
    statistic: 'median' or 'mean'.
    level: how often the interval holds the statistic, in (0, 1).
    seed: the seed of the resampling; the same scores give the same interval.

  Raises:
    ValueError: an unknown statistic, or a level outside (0, 1).
  """
  summary = registry.lookup(_STATISTICS, statistic, 'statistic')
  if not 0 < level < 1:
    raise ValueError(
      f'Expected a level in (0, 1); got level={level}; 0.95 is usual'
    )
  scores = np.ravel(np.asarray(scores, np.float64))
  if not np.isfinite(scores).all() or 2.0 ** (1 - len(scores)) > 1 - level:
    return Interval(np.nan, np.nan)
  if len(scores) > _MANY:
    return _of_many(scores, statistic, level)
  ends = scipy.stats.bootstrap(
    (scores,),
    summary,
    n_resamples=_RESAMPLES,
    confidence_level=level,
    method='percentile',
    rng=np.random.default_rng(seed),
    vectorized=True,
  ).confidence_interval
  return Interval(float(ends.low), float(ends.high))


def _of_many(scores: np.ndarray, statistic: str, level: float) -> Interval:
  """Returns the interval of very many scores, see `interval`."""
  z, n = scipy.stats.norm.ppf((1 + level) / 2), len(scores)
  if statistic == 'mean':
    margin = z * np.std(scores, ddof=1) / np.sqrt(n)
    return Interval(
      float(scores.mean() - margin), float(scores.mean() + margin)
    )
  ordered, margin = np.sort(scores), z * np.sqrt(n) / 2
  low = int(np.floor(n / 2 - margin))
  return Interval(float(ordered[low]), float(ordered[n - 1 - low]))
