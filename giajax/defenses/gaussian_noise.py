"""Gaussian noise of a fixed scale on every entry of the update's delta.

Zhu, Liu and Han, Deep Leakage from Gradients, NeurIPS 2019, arXiv 1906.08935,
section 5.1. Without clipping this carries no privacy guarantee. BatchNorm
buffers leave the client as they are.
"""

import math

from giajax import keys
from giajax.defenses import base


def gaussian_noise(*, scale: float) -> base.Defense:
  """Adds N(0, scale^2) to every entry of the update's delta.

  Args:
    scale: standard deviation, in units of the gradient, >= 0.

  Raises:
    ValueError: a scale that is negative or not finite.
  """
  if isinstance(scale, bool) or not 0 <= scale < math.inf:
    raise ValueError(
      f'Expected a finite scale >= 0; got scale={scale}; use 0 for no noise'
    )

  def change(key, leaf):
    return leaf + scale * keys.normal(key, leaf.shape)

  return base.Defense(on_client=base.on_leaves(change, 'gaussian_noise'))
