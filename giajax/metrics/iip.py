"""Image identifiability precision: does a reconstruction point to its image?

  IIP = fraction of reconstructions whose nearest image, of all candidates of
        the true image's class, is the true one

Yin, Mallya, Vahdat, Alvarez, Kautz and Molchanov, "See through gradients: Image
batch recovery via GradInversion", CVPR 2021, arXiv:2104.07586, in the feature
space of a network. The distance is one minus the cosine, as in `breaching`.
Deviation: a tie counts as a miss, so that a network that maps all images to one
point identifies none. With n rivals, chance is 1 / (n + 1): values with another
number of rivals are not comparable.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from giajax.metrics import base

# The largest number of other images of its class that an image is compared
# with. All experiments use the same number, because IIP falls with it.
RIVALS = 15


def identified(
  guess: npt.ArrayLike, true: npt.ArrayLike, rivals: npt.ArrayLike
) -> float:
  """Returns 1 where the true image is nearer than every rival, else 0.

  Args:
    guess: [...] features of a reconstruction; NaN is a miss.
    true: as `guess`, of the true image.
    rivals: [n, ...] features of n >= 1 other images of its class.

  Raises:
    ValueError: there is no rival, or the shapes do not belong together.
  """
  guess, true, rivals = (
    np.asarray(v, np.float64) for v in (guess, true, rivals)
  )
  if not len(rivals) or not guess.shape == true.shape == rivals.shape[1:]:
    raise ValueError(
      'Expected features [...] of one shape and at least one rival [n, ...]; '
      f'got guess.shape={guess.shape}, true.shape={true.shape}, '
      f'rivals.shape={rivals.shape}; leave out images alone in their class'
    )
  own, *others = (_distance(guess, x) for x in (true, *rivals))
  return float(own < min(others))


def iip(
  true: npt.ArrayLike, guess: npt.ArrayLike, rivals: Sequence[np.ndarray]
) -> np.ndarray:
  """Returns 1 for each image that is identified, else 0, [B] float32.

  NaN for an image that is alone in its class.

  Args:
    true: [B, ...] features of the true images.
    guess: [B, ...] features of the reconstructions.
    rivals: B arrays [n, ...], n >= 0, of other images of each class.
  """
  return np.array(
    [
      identified(f, t, r) if len(r) else np.nan
      for t, f, r in zip(np.asarray(true), np.asarray(guess), rivals)
    ],
    np.float32,
  )


def chance(rivals: Sequence[np.ndarray]) -> np.ndarray:
  """Returns the IIP of drawing a candidate at random, [B] float32.

  Args:
    rivals: as for `iip`; the result is NaN where there are none.
  """
  values = [1 / (len(r) + 1) if len(r) else np.nan for r in rivals]
  return np.array(values, np.float32)


def _distance(f: np.ndarray, g: np.ndarray) -> float:
  """Returns one minus the cosine; NaN, which counts as a miss, if undefined."""
  length = np.linalg.norm(f) * np.linalg.norm(g)
  return float(1 - np.vdot(f, g) / length) if length > 0 else np.nan


_SOURCE = (
  'Yin, Mallya, Vahdat, Alvarez, Kautz and Molchanov, CVPR 2021, '
  'arXiv:2104.07586'
)

IIP = base.Metric(
  name='iip',
  label='IIP',
  unit='',
  form='.0%',
  meaning='Share of reconstructions that the audited network finds closer to '
  f'their own image than to any of up to {RIVALS} others of its class.',
  source=_SOURCE,
  needs=('features', 'features_hat', 'rivals'),
  score=iip,
  summary='mean',
  partial=True,
)

CHANCE = base.Metric(
  name='iip_chance',
  label='IIP by chance',
  unit='',
  form='.0%',
  meaning='The IIP of somebody who draws a candidate at random.',
  source=_SOURCE,
  needs=('rivals',),
  score=chance,
  about='batch',
  summary='mean',
  partial=True,
)
