"""Classes whose weights are much larger or smaller than those of the others.

Fishing multiplies the target's row, or those of the others (Wen et al., ICML
2022, arXiv 2202.00580). The score is the largest |log| of the norm of a class's
row over the median norm, in nats: 0.7 for a factor of 2.

It does not see a change of all rows alike, which `scale` does if it is large.
"""

import numpy as np

from giajax import types
from giajax.verify import base

_TINY = 1e-30


def class_scale(view: base.View, *, threshold: float = 0.4) -> base.Verifier:
  """Outliers among the norms of the classifier's rows.

  Args:
    view: what the client knows.
    threshold: nats.
  """

  def verify(
    key: types.Array, message: types.ServerMessage, probe: types.Batch
  ) -> base.Verdict:
    del key, probe
    head = base.head(view, message)
    if head is None:
      return base.not_run('No classifier.')
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

  return verify
