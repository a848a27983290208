"""A classifier that looks at one feature.

Feature fishing (Wen et al., Fishing for User Data in Large-Batch Federated
Learning, ICML 2022, arXiv 2202.00580) makes the loss depend on one feature,
times 300, and moves the bias until one image of the class is left. The score is
the share of the largest column in the classifier's squared norm times the
number of features, as a natural logarithm, in nats: 0 if all features count the
same, log(features) if only one counts.

It does not see a classifier that reads a tenth of its features equally, nor
what makes a feature large before the classifier.
"""

import numpy as np

from giajax.verify import base
from giajax.verify.parts import weights

_TINY = 1e-30


def feature_concentration(
  view: base.View, *, threshold: float = 2.5
) -> base.Verifier:
  """Outliers among the features that the classifier reads.

  Args:
    view: what the client knows.
    threshold: nats.
  """

  def judge(head: weights.Kernel) -> base.Verdict:
    energy = np.square(head.rows, dtype=float).sum(0)
    share = energy / max(energy.sum(), _TINY)
    return base.verdict(
      max(0.0, np.log(max(share.max() * len(share), _TINY))),
      threshold,
      'Feature {worst} of {count} holds {share:.3g} of the squared norm of '
      '{name}: {score} nats above an equal share (limit {limit}).',
      name=head.name,
      worst=int(share.argmax()),
      count=len(share),
      share=share.max(),
    )

  return weights.of_classifier(view, judge)
