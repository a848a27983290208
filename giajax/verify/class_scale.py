"""Classes whose weights are much larger or smaller than those of the others.

Fishing multiplies the target's row, or the rows of the others (Wen et al.,
Fishing for User Data in Large-Batch Federated Learning, ICML 2022, arXiv
2202.00580). The score is the largest |log| of the norm of a class's row over
the median norm, in nats: 0.7 for a factor of 2.

It does not see a change that all rows share, which `scale` sees if it is large.
"""

import numpy as np

from giajax.verify import base
from giajax.verify.parts import weights

_TINY = 1e-30


def class_scale(view: base.View, *, threshold: float = 0.4) -> base.Verifier:
  """Outliers among the norms of the classifier's rows.

  Args:
    view: what the client knows.
    threshold: nats.
  """

  def judge(head: weights.Kernel) -> base.Verdict:
    norms = np.maximum(np.linalg.norm(head.rows, axis=1), _TINY)
    distance = np.abs(np.log(norms / np.median(norms)))
    return base.verdict(
      distance.max(),
      threshold,
      'Row {worst} of {name} has {times:.3g} times the median norm: {score} '
      'nats (limit {limit}).',
      name=head.name,
      worst=int(distance.argmax()),
      times=norms[distance.argmax()] / np.median(norms),
    )

  return weights.of_classifier(view, judge)
