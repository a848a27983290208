"""Classes that the classifier's biases switch on or off.

Fishing (Wen et al., Fishing for User Data in Large-Batch Federated Learning,
ICML 2022, arXiv 2202.00580) sets the biases of all classes but the target's to
a large value, which leaves the gradient to the target's images. The score is
the range of the classifier's biases in nats: a factor of e^score between the
odds of two classes, whatever the image shows.

It does not see the same effect if constant features cause it, nor a classifier
without biases.
"""

import numpy as np

from giajax.verify import base
from giajax.verify.parts import weights


def class_bias(view: base.View, *, threshold: float = 2.7) -> base.Verifier:
  """Outliers among the biases of the classifier.

  Args:
    view: what the client knows.
    threshold: nats.
  """

  def judge(head: weights.Kernel) -> base.Verdict:
    if head.bias is None:
      return base.not_run('The classifier has no biases.')
    middle = np.median(head.bias)
    return base.verdict(
      np.ptp(head.bias),
      threshold,
      'The biases of {name} span {score} nats (limit {limit}); class {worst} '
      'is farthest from the median.',
      name=head.name,
      worst=int(np.abs(head.bias - middle).argmax()),
    )

  return weights.of_classifier(view, judge)
