"""D-SNR: one image's gradient above those of all others, in some layer.

Garov, Dimitrov, Jovanovic and Vechev, Hiding in Plain Sight: Disguising Data
Stealing Attacks in Federated Learning, ICLR 2024, arXiv 2306.03013, section 3:
over the weights W of linear and convolutional layers and the images i of a
batch,

  max_W max_i |g_W,i| / (sum_j |g_W,j| - max_j |g_W,j|).

The score is its decimal logarithm above that of equal shares, 1 / (B - 1), so
that probes of different sizes compare. Theirs is taken in training mode; ours
in inference mode, where each image has a gradient of its own.

A trained network that is wrong about one image of the probe has a high D-SNR,
too: up to 200 times an equal share in CIFAR-10's ResNet-56. The threshold has
to be above that, and a server that stays below is not seen. Nor is SEER, of the
same paper, which separates images in a space of the server's own.
"""

import numpy as np

from giajax import types
from giajax.verify import base

_TINY = 1e-12


def dsnr(view: base.View, *, threshold: float = 2.4) -> base.Verifier:
  """The disaggregation signal-to-noise ratio of the probe's gradients.

  Args:
    view: what the client knows.
    threshold: decades above equal shares.
  """

  def verify(
    key: types.Array, message: types.ServerMessage, probe: types.Batch
  ) -> base.Verdict:
    del key
    found = base.tried(view, base.runnable(view, message), probe)
    if isinstance(found, base.Verdict):
      return found
    scores = {}
    for name, norms in found.norms.items():
      if not name.endswith('kernel'):
        continue
      values = np.asarray(norms, float)
      most = values.max()
      ratio = most / max(values.sum() - most, _TINY * max(most, _TINY))
      live = most > _TINY
      scores[name] = np.log10(ratio * (len(values) - 1)) if live else 0.0
    return base.largest(
      {name: max(0.0, float(score)) for name, score in scores.items()},
      threshold,
      "In {name} one image's gradient has 10^{score} times an equal share of "
      "the others' (limit 10^{limit}).",
      'No layer with weights is trained.',
    )

  return verify
