"""What an audit recovered, and whether two audits differ by more than chance.

Two audits are compared update by update: images of one batch come back together
or not at all, so they are not independent observations. An update's score is
the mean PSNR of its images in dB, each clipped to the range from 0 to
`exact.THRESHOLD`, beyond which an image is exact anyway; one that is not finite
counts as 0. The test is a two-sided permutation test of the mean score (Ernst,
Permutation Methods: A Basis for Exact Inference, Statistical Science 2004).
Where both audits attacked the same images, the two scores of an update change
places; otherwise the updates themselves change sides.
"""

from collections.abc import Mapping, Sequence
import math
from typing import Any, NamedTuple

import numpy as np
import scipy  # which loads its parts where they are used

from giajax.metrics import exact
from giajax.report import advice
from giajax.results import collection

_PERMUTATIONS = 9999  # at most; all permutations if there are fewer
# Verdicts on an update that gave something away.
_RECOVERED = ('leaks', 'partial')


class Recovery(NamedTuple):
  """What came back from the updates of an audit, one entry per update.

  Attributes:
    images: the true images, [B, H, W, C].
    psnr: the PSNR of each image in dB, [B].
    ssim: the SSIM of each image, [B].
    recognised: which images came back recognisably, by the rule of the report,
      [B] bool.
    verdicts: the verdicts of the run.
  """

  images: list[np.ndarray]
  psnr: list[np.ndarray]
  ssim: list[np.ndarray]
  recognised: list[np.ndarray]
  verdicts: list[str]


def recovery(
  run: collection.Run, rows: Sequence[Mapping[str, Any]]
) -> Recovery:
  """Returns what came back in some rows of a run whose arrays are open."""
  scores = {
    name: [np.asarray(collection.scores(run, row, name)) for row in rows]
    for name in ('psnr', 'ssim')
  }
  return Recovery(
    images=[collection.array(run, row, 'x') for row in rows],
    psnr=[np.nan_to_num(values, nan=0.0) for values in scores['psnr']],
    ssim=[np.nan_to_num(values, nan=-1.0) for values in scores['ssim']],
    recognised=[collection.recognised(run, row) for row in rows],
    verdicts=[str(row['verdict']) for row in rows],
  )


def facts(recovered: Recovery) -> dict[str, Any]:
  """Returns medians over the images and counts, for advice.json.

  'recovered' says whether the attack found more than a guess would, in any
  update.
  """
  recognised = np.concatenate(recovered.recognised)
  leaks = any(verdict in _RECOVERED for verdict in recovered.verdicts)
  return {
    'psnr': float(np.median(np.concatenate(recovered.psnr))),
    'ssim': float(np.median(np.concatenate(recovered.ssim))),
    'recognised': int(recognised.sum()),
    'images': int(recognised.size),
    'updates': len(recovered.verdicts),
    'recovered': bool(recognised.any() or leaks),
  }


def compare(before: Recovery, after: Recovery) -> dict[str, Any]:
  """Returns how a change moved the score of an update, for advice.json.

  'gain' is the change of the mean score in dB, 'paired' says whether both
  audits attacked the same images, and 'chance' is the p-value: how often a
  difference as large would come about if the change did nothing. It is None if
  there are too few updates for a p-value of `advice.LEVEL`.
  """
  old, new = _scores(before), _scores(after)
  paired = _same(before.images, after.images)
  count = 2 ** len(old) if paired else math.comb(len(old) + len(new), len(old))
  chance = None
  if 2 / count <= advice.LEVEL:  # the smallest p-value that two sides can reach
    test = scipy.stats.permutation_test(
      (new, old),
      lambda a, b, axis: a.mean(axis) - b.mean(axis),
      permutation_type='samples' if paired else 'independent',
      n_resamples=_PERMUTATIONS,
      vectorized=True,
      rng=np.random.default_rng(0),
    )
    chance = float(test.pvalue)
  gain = float(new.mean() - old.mean())
  return {'gain': gain, 'paired': paired, 'chance': chance}


def _scores(recovered: Recovery) -> np.ndarray:
  """Returns the score of each update, [updates]."""
  top = exact.THRESHOLD
  return np.array([np.clip(p, 0.0, top).mean() for p in recovered.psnr])


def _same(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> bool:
  return len(a) == len(b) and all(map(np.array_equal, a, b))
