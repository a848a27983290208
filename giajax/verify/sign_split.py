"""Trap weights: rows whose positive half mirrors their negative half.

Boenisch et al., When the Curious Abandon Honesty: Federated Learning Is Not
Private, EuroS&P 2023, arXiv 2112.02918, algorithm 1: half of a row's weights
are negative draws, the other half the same magnitudes times -s, s < 1, so that
few images make the unit positive. With p and n the sorted magnitudes of a row's
positive and negative weights, as many of each as there are of the rarer sign,
and s the factor that fits best, the score of a layer is

  -log10 median_rows( |p - s n| / |p| * sqrt(number) ),

0 if negative. It says in decades how much better the halves fit than those of
random rows, whose residual is about 1; exact mirrors have 5 or 6. Layers of
fewer than eight units, whose median is a matter of chance, and layers with
fewer than `base.LEAST_WEIGHTS` weights per unit are passed over.

It does not see halves that were drawn independently, mirrors with noise of
10 %, or a few mirrored rows among others.
"""

import numpy as np

from giajax import types
from giajax.verify import base
from giajax.verify.parts import weights

_ROWS = 256  # the number of rows that are drawn
_ROUNDING = 1e-7
_LEAST_UNITS = 8


def sign_split(view: base.View, *, threshold: float = 0.5) -> base.Verifier:
  """Rows whose positive weights are their negative weights, scaled.

  Args:
    view: what the client knows.
    threshold: the largest score that is accepted, in decades.
  """
  del view
  return weights.of_layers(
    _score,
    threshold,
    'In {name} the positive weights of a unit mirror its negative ones, '
    '10^{score} times better than by chance (limit 10^{limit}).',
    'No layer has units of enough weights.',
  )


def _score(key: types.Array, kernel: weights.Kernel) -> float | None:
  rows = kernel.rows[weights.sample(key, len(kernel.rows), _ROWS)]
  residuals = [r for row in rows if (r := _residual(row)) is not None]
  if rows.shape[1] < base.LEAST_WEIGHTS or len(residuals) < _LEAST_UNITS:
    return None
  return float(-np.log10(max(np.median(residuals), _ROUNDING)))


def _residual(row: np.ndarray) -> float | None:
  """Returns the misfit of the two halves, None where one is missing."""
  positive, negative = np.sort(row[row > 0]), np.sort(-row[row < 0])
  count = min(len(positive), len(negative))
  if count < base.LEAST_WEIGHTS // 4:
    return None
  if len(positive) != len(negative):
    level = (np.arange(count) + 0.5) / count
    positive, negative = (
      np.quantile(half, level) for half in (positive, negative)
    )
  positive, negative = positive.astype(float), negative.astype(float)
  factor = positive @ negative / (negative @ negative)
  misfit = np.linalg.norm(positive - factor * negative)
  return float(misfit / np.linalg.norm(positive) * np.sqrt(count))
