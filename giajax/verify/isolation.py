"""Units that a single image reaches: their gradient row is that image.

Trap weights (Boenisch et al., EuroS&P 2023, arXiv 2112.02918) make it likely
that a unit of the first linear layer is active for only one image of the batch.
The gradient of that unit's row is then a multiple of the image. With c_ij the
derivative of image i's loss with respect to unit j, the score is a share of
units, between 0 and 1: among those that any image reaches, the units where one
image holds more than 0.99 of sum_i |c_ij|.

Sparse units of trained ReLU networks look the same, and each of them does leak
its image: the check then objects to an honest model, and is right about the
leak. Honest models have up to 0.2 on 16 images; 32 fresh MLPs, with up to 0.26
on the 8 of the smallest probe, set the threshold.

It does not see few isolating units among many others, nor anything in networks
whose only linear layer is the classifier.
"""

import numpy as np

from giajax.verify import base
from giajax.verify.parts import passes
from giajax.verify.parts import trial

_ALONE = 0.99
_TINY = 1e-30


def isolation(view: base.View, *, threshold: float = 0.3) -> base.Verifier:
  """Units of the first linear layer whose gradient comes from one image.

  Args:
    view: what the client knows.
    threshold: the largest share that is accepted, of the units that images
      reach.
  """

  def judge(path: str, examples: passes.Examples) -> base.Verdict:
    size = np.abs(np.asarray(examples.cotangents, float))
    total = size.sum(0)
    reached = total > 1e-9 * max(total.max(), _TINY)
    alone = size.max(0)[reached] > _ALONE * total[reached]
    return base.verdict(
      alone.mean() if alone.size else 0.0,
      threshold,
      'In {name} a share of {score} of the {count} units that the probe '
      'reaches is reached by one image alone (limit {limit}).',
      name=path,
      count=alone.size,
    )

  return trial.of_reader(view, judge)
