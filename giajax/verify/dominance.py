"""One image that makes the whole gradient.

Fishing succeeds when the update is that of one image (Wen et al., ICML 2022,
arXiv 2202.00580). With g_i the gradient of image i over all parameters, the
largest share is s = max_i |g_i|^2 / sum_j |g_j|^2 and the score (B s - 1) / (B
- 1): 0 for equal shares, 1 where one image is all there is.

A trained network that is wrong about one image of the probe looks the same: of
16 images, one makes 0.3 to 0.997 of the gradient of CIFAR-10's ResNets. The
threshold therefore leaves no more to be seen than others' gradients of 0.
"""

import numpy as np

from giajax import types
from giajax.verify import base


def dominance(view: base.View, *, threshold: float = 0.998) -> base.Verifier:
  """The share of one image in the gradient of the probe.

  Args:
    view: what the client knows.
    threshold: between 0, an equal share, and 1, all.
  """

  def verify(
    key: types.Array, message: types.ServerMessage, probe: types.Batch
  ) -> base.Verdict:
    del key
    found = base.tried(view, base.runnable(view, message), probe)
    if isinstance(found, base.Verdict):
      return found
    energy = np.square([*found.norms.values()], dtype=float).sum(0)
    share = energy / max(energy.sum(), 1e-30)
    count = len(share)
    return base.verdict(
      max(0.0, (count * share.max() - 1) / (count - 1)),
      threshold,
      'One of {count} images makes a share of {most:.3g} of the gradient: '
      '{score} between an equal one and all (limit {limit}).',
      count=count,
      most=share.max(),
    )

  return verify
