"""D-SNR: one image's gradient above those of all others, in some layer.

Garov, Dimitrov, Jovanovic and Vechev, Hiding in Plain Sight: Disguising Data
Stealing Attacks in Federated Learning, ICLR 2024, arXiv 2306.03013, section 3:
over the weights W of linear and convolutional layers and the images i of a
batch,

  max_W max_i |g_W,i| / (sum_j |g_W,j| - max_j |g_W,j|).

The score is the decimal logarithm of this ratio divided by the ratio of equal
shares, 1 / (B - 1), in decades, so that probes of different sizes can be
compared. The authors take the ratio in training mode; this check takes it in
inference mode, where each image has a gradient of its own.

A trained network that is wrong about one image of the probe has a high D-SNR,
too: up to 200 times an equal share in CIFAR-10's ResNet-56. The threshold has
to be above that, and the check does not see a server that stays below. Nor does
it see SEER, of the same paper, which separates images in a space of the
server's own.
"""

import numpy as np

from giajax.verify import base
from giajax.verify.parts import passes
from giajax.verify.parts import trial

_TINY = 1e-12


def dsnr(view: base.View, *, threshold: float = 2.4) -> base.Verifier:
  """The disaggregation signal-to-noise ratio of the probe's gradients.

  Args:
    view: what the client knows.
    threshold: the largest score that is accepted, in decades above equal
      shares.
  """

  def judge(examples: passes.Examples) -> base.Verdict:
    return base.worst_layer(
      {
        name: _decades(np.asarray(norms, float))
        for name, norms in examples.norms.items()
        if name.endswith('kernel')
      },
      threshold,
      "In {name} one image's gradient has 10^{score} times an equal share of "
      "the others' (limit 10^{limit}).",
      'No layer with weights is trained.',
    )

  return trial.of_probe(view, judge)


def _decades(norms: np.ndarray) -> float:
  """Returns the score of one layer from the norms [B] of its gradients."""
  most = norms.max()
  if most <= _TINY:
    return 0.0
  ratio = most / max(norms.sum() - most, _TINY * most)
  return max(0.0, float(np.log10(ratio * (len(norms) - 1))))
