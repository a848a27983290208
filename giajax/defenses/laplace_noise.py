"""Laplace noise of a fixed scale on every entry of the update's delta.

Zhu, Liu and Han, Deep Leakage from Gradients, NeurIPS 2019, arXiv 1906.08935,
section 5.1, compares it with Gaussian noise of the same variance. Without
clipping this carries no privacy guarantee. BatchNorm buffers leave the client
as they are.
"""

import math

import jax

from giajax.defenses import base


def laplace_noise(*, scale: float) -> base.Defense:
  """Adds Laplace noise of standard deviation `scale` to every entry.

  Args:
    scale: standard deviation, in units of the delta, >= 0; the b of the
      density exp(-|x| / b) / 2b is `scale / sqrt(2)`.

  Raises:
    ValueError: a scale that is negative or not finite.
  """
  if isinstance(scale, bool) or not 0 <= scale < math.inf:
    raise ValueError(
      f'Expected a finite scale >= 0; got scale={scale}; use 0 for no noise'
    )

  def change(key, leaf):
    draw = jax.random.laplace(key, (leaf.size,)).reshape(leaf.shape)
    return leaf + scale / math.sqrt(2) * draw

  return base.Defense(on_client=base.on_leaves(change, 'laplace_noise'))
