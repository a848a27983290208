"""Which slot of a reconstruction stands for which true image.

A gradient does not tell the order of its batch, so images are matched before
they are scored: the one-to-one matching of least total MSE (the Hungarian
method, H. W. Kuhn, Naval Research Logistics Quarterly 1955). It is part of
scoring and uses the truth; no attack may see it.
"""

import numpy as np
import numpy.typing as npt
import scipy.optimize

UNMATCHED = -1


def assign(
  truth: npt.ArrayLike, candidates: npt.ArrayLike, valid: npt.ArrayLike
) -> np.ndarray:
  """Returns the slot of each true image, [B] int32, `UNMATCHED` for none.

  Every valid slot serves at most one image; with fewer valid slots than
  images, the images that fit worst stay unmatched. A slot that holds a NaN or
  an infinity is matched only after all others: it is a failure to be scored,
  not a slot that was never claimed.

  Args:
    truth: [B, H, W, C] true images.
    candidates: [M, H, W, C] the reconstruction's slots.
    valid: [M] bool, the slots that claim to hold an image.

  Raises:
    ValueError: the shapes do not belong together.
  """
  # float64 makes |t|^2 - 2 t.f + |f|^2 safe from cancellation.
  truth = np.asarray(truth, np.float64)
  candidates = np.asarray(candidates, np.float64)
  valid = np.asarray(valid, bool)
  if (
    truth.shape[1:] != candidates.shape[1:]
    or valid.shape != candidates.shape[:1]
  ):
    raise ValueError(
      'Expected truth [B, H, W, C], candidates [M, H, W, C] and valid [M]; got '
      f'truth.shape={truth.shape}, candidates.shape={candidates.shape}, '
      f'valid.shape={valid.shape}; stack them alike'
    )
  slots = np.full(len(truth), UNMATCHED, np.int32)
  claimed = np.flatnonzero(valid)
  rows, columns = scipy.optimize.linear_sum_assignment(
    _costs(truth, candidates[claimed])
  )
  slots[rows] = claimed[columns]
  return slots


def _costs(truth: np.ndarray, candidates: np.ndarray) -> np.ndarray:
  """Returns the pairwise MSE [B, M], finite."""
  t = truth.reshape(len(truth), -1)
  f = candidates.reshape(len(candidates), t.shape[1])
  finite = np.all(np.isfinite(f), axis=1)
  f = np.where(finite[:, None], f, 0)
  costs = (t**2).sum(1)[:, None] - 2 * t @ f.T + (f**2).sum(1)[None]
  costs /= t.shape[1]
  worst = costs.sum() + 1  # above the total of any matching of finite slots
  return np.where(finite[None], costs, worst)
