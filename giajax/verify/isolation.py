"""Units that a single image reaches: their gradient row is that image.

What trap weights (Boenisch et al., EuroS&P 2023, arXiv 2112.02918) make likely:
a unit of the first linear layer that is active for one image of the batch has a
gradient which is a multiple of that image. With c_ij the derivative of image
i's loss to unit j, the score is the share of units, among those that any image
reaches, where one image holds more than 0.99 of sum_i |c_ij|.

Sparse units of trained ReLU networks look the same, and each of them does leak
the image: a flagged honest model is not a mistake here, only no malice. Honest
models have up to 0.2 on 16 images; 32 fresh MLPs, with up to 0.26 on the 8 of
the smallest probe, set the threshold.
"""

import numpy as np

from giajax.verify import base

_ALONE = 0.99


def isolation(view: base.View, *, threshold: float = 0.3) -> base.Verifier:
  """Units of the first linear layer whose gradient is one image's.

  Args:
    view: what the client knows.
    threshold: share of the units that images reach.
  """

  def judge(path: str, found: base.Examples) -> base.Verdict:
    size = np.abs(np.asarray(found.cotangents, float))
    total = size.sum(0)
    reached = total > 1e-9 * max(total.max(), 1e-30)
    alone = size.max(0)[reached] > _ALONE * total[reached]
    return base.verdict(
      alone.mean() if alone.size else 0.0,
      threshold,
      'In {name} a share of {score} of the {count} units that the probe '
      'reaches is reached by one image alone (limit {limit}).',
      name=path,
      count=alone.size,
    )

  return base.of_reader(view, judge)
