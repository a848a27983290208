"""Duplicated or proportional rows: units of a layer that compute the same.

The imprint layer of Robbing the Fed (Fowl et al., ICLR 2022, arXiv 2110.13057)
measures the same quantity of the image in every row, and LOKI (Zhao et al.,
IEEE S&P 2024, arXiv 2303.12233) repeats it for every client. Training gives no
reason for that. With r_i the weights of unit i, and d_i = 1 - max_{j != i}
|cos(r_i, r_j)| how much it differs from its nearest, the score of a layer is

  log10 mean_i 1 / d_i,

in decades: the harmonic mean of the differences, 1 for |cosine|s of 0.9, about
7 for equal rows. A share p of equal rows costs log10(1 / p) decades, so that a
server cannot hide them among others that it leaves as they were: one pair in a
layer of 4,096 has 3.7. Layers with fewer than `base.LEAST_WEIGHTS` weights per
unit are passed over.

It does not see rows that share only a part of their direction: |cosine|s below
about 0.92 in all of a layer, or below 0.99 in a tenth of it. Published weights
of MobileNetV2 for ImageNet have units like that.
"""

import numpy as np

from giajax import types
from giajax.verify import base
from giajax.verify.parts import weights

_ROUNDING = 1e-7  # of a cosine in float32


def proportional_rows(
  view: base.View, *, threshold: float = 1.1
) -> base.Verifier:
  """Rows of a layer that are duplicates or multiples of each other.

  Args:
    view: what the client knows.
    threshold: the largest score that is accepted, in decades.
  """
  del view
  return weights.of_layers(
    _score,
    threshold,
    'In {name} units differ from their nearest by 10^-{score} in cosine, in '
    'harmonic mean (limit 10^-{limit}).',
    'No layer has units of enough weights to compare.',
  )


def _score(key: types.Array, kernel: weights.Kernel) -> float | None:
  del key
  if kernel.rows.shape[1] < base.LEAST_WEIGHTS:
    return None
  near = weights.nearest(kernel.rows)
  apart = np.maximum(1 - near.astype(float), _ROUNDING)
  return float(np.log10(np.mean(1 / apart))) if near.size else 0.0
