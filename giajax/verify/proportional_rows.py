"""Duplicated or proportional rows: units of a layer that compute the same.

The imprint layer of Robbing the Fed (Fowl et al., ICLR 2022, arXiv 2110.13057)
asks one question of the image in every row, and LOKI (Zhao et al., IEEE S&P
2024, arXiv 2303.12233) repeats it for every client. Training gives no reason
for that. With r_i the weights of unit i, and d_i = 1 - max_{j != i}
|cos(r_i, r_j)| how much it differs from its nearest, the score of a layer is

  log10 mean_i 1 / d_i,

in decades: the harmonic mean of the differences, 1 for |cosine|s of 0.9, about
7 for equal rows. A share p of equal rows costs log10(1 / p) of these, so that a
server cannot hide them among others that it leaves as they were: one pair in a
layer of 4,096 has 3.7. Layers with fewer than `base.LEAST_WEIGHTS` weights a
unit are passed over.

It does not see rows that share a part of their direction only: |cosine|s below
0.92 or so in all of a layer, or below 0.99 in a tenth of it. Published
MobileNetV2 of ImageNet has units like that.
"""

import numpy as np

from giajax import types
from giajax.verify import base

_ROUNDING = 1e-7  # of a cosine in float32


def proportional_rows(
  view: base.View, *, threshold: float = 1.1
) -> base.Verifier:
  """Rows of a layer that are duplicates or multiples of each other.

  Args:
    view: what the client knows.
    threshold: decades, see above.
  """
  del view

  def verify(
    key: types.Array, message: types.ServerMessage, probe: types.Batch
  ) -> base.Verdict:
    del key, probe
    scores = {}
    for kernel in base.kernels(message):
      rows = kernel.rows
      if rows.shape[1] >= base.LEAST_WEIGHTS:
        near = base.nearest(rows)
        apart = np.maximum(1 - near.astype(float), _ROUNDING)
        scores[kernel.name] = np.log10(np.mean(1 / apart)) if near.size else 0.0
    return base.largest(
      {name: max(0.0, float(score)) for name, score in scores.items()},
      threshold,
      'In {name} units differ from their nearest by 10^-{score} in cosine, in '
      'harmonic mean (limit 10^-{limit}).',
      'No layer has units of enough weights to compare.',
    )

  return verify
