"""One image that makes the whole gradient.

Fishing succeeds when the update is the gradient of one image (Wen et al.,
Fishing for User Data in Large-Batch Federated Learning, ICML 2022, arXiv
2202.00580). With g_i the gradient of image i over all parameters, the largest
share is s = max_i
|g_i|^2 / sum_j |g_j|^2. The score is (B s - 1) / (B - 1), which has no unit: 0
for equal shares, 1 where one image makes all of the gradient.

A trained network that is wrong about one image of the probe looks the same: of
16 images, one makes 0.3 to 0.997 of the gradient of CIFAR-10's ResNets. The
threshold is above that, so that the check does not see a server that leaves
more than a trace of the other images' gradients.
"""

import numpy as np

from giajax.verify import base
from giajax.verify.parts import passes
from giajax.verify.parts import trial

_TINY = 1e-30


def dominance(view: base.View, *, threshold: float = 0.998) -> base.Verifier:
  """The share of one image in the gradient of the probe.

  Args:
    view: what the client knows.
    threshold: the largest score that is accepted, from 0, an equal share, to 1,
      all.
  """

  def judge(examples: passes.Examples) -> base.Verdict:
    energy = np.square([*examples.norms.values()], dtype=float).sum(0)
    share = energy / max(energy.sum(), _TINY)
    count = len(share)
    return base.verdict(
      max(0.0, (count * share.max() - 1) / (count - 1)),
      threshold,
      'One of {count} images makes {most:.3g} of the gradient: {score} on a '
      'scale from an equal share, 0, to all of it, 1 (limit {limit}).',
      count=count,
      most=share.max(),
    )

  return trial.of_probe(view, judge)
