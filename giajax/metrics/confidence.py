"""How precise a median or mean over images is: a bootstrap interval.

The percentile interval of Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993, by `scipy.stats.bootstrap`. It treats the scores as
independent draws, which images of one batch are not quite, because they share
an update.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # which loads its parts where they are used

from giajax import registry

_RESAMPLES = 2000
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
