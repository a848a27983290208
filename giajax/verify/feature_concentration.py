"""A classifier that looks at one feature.

Feature fishing (Wen et al., ICML 2022, arXiv 2202.00580) makes the loss depend
on one feature, times 300, and moves the bias until one image of the class is
left. The score is the share of the largest column in the classifier's squared
norm times the number of features, as a natural logarithm: 0 where all features
count the same, log(features) where one alone does.
"""

import numpy as np

from giajax import types
from giajax.verify import base


def feature_concentration(
  view: base.View, *, threshold: float = 2.5
) -> base.Verifier:
  """Outliers among the features that the classifier reads.

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
    energy = np.square(head.rows, dtype=float).sum(0)
    share = energy / max(energy.sum(), 1e-30)
    return base.verdict(
      max(0.0, np.log(max(share.max() * len(share), 1e-30))),
      threshold,
      'Feature {worst} of {count} holds {share:.3g} of the squared norm of '
      '{name}: {score} nats above an equal share (limit {limit}).',
      name=head.name,
      worst=int(share.argmax()),
      count=len(share),
      share=share.max(),
    )

  return verify
