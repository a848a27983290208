"""Convolutions that pass the image on: kernels of one weight.

LOKI (Zhao et al., IEEE S&P 2024, arXiv 2303.12233) sends each client identity
kernels on channels of its own, and trap weights on convolutional networks
(Boenisch et al., EuroS&P 2023, arXiv 2112.02918) carry the image through all
convolutions to the first linear layer. The score of a convolution is the mean
over its kernels, except those of zeros, of the share of the largest weight in
the squared norm. It has no unit: 1 for an identity, about 2 log(n) / n for n
random weights. (The transmit-SNR of Garov et al., ICLR 2024, arXiv 2306.03013,
compares the largest weight with the sum of the others, in the first layer.)
Convolutions of one pixel, and those with fewer than `base.LEAST_WEIGHTS`
weights per unit, are passed over, unless they read the image.

It does not see an image that is passed on mixed by an invertible map.
"""

import numpy as np

from giajax import types
from giajax.verify import base
from giajax.verify.parts import weights

_TINY = 1e-30


def identity_kernels(
  view: base.View, *, threshold: float = 0.3
) -> base.Verifier:
  """Convolutions whose kernels pass on single pixels.

  Args:
    view: what the client knows.
    threshold: the largest mean share of the largest weight that is accepted.
  """
  channels = view.net.spec.image_shape[2]

  def score(key: types.Array, kernel: weights.Kernel) -> float | None:
    del key
    energy = np.square(kernel.rows, dtype=float)
    total = energy.sum(1)
    live = total > 1e-12 * max(total.max(initial=0.0), _TINY)
    if not live.any() or not _is_looked_at(kernel.weight.shape, channels):
      return None
    return float(np.mean(energy.max(1)[live] / total[live]))

  return weights.of_layers(
    score,
    threshold,
    'In {name} the largest weight of a kernel holds a share of {score} of its '
    'squared norm, on average (limit {limit}).',
    'No convolution has kernels of enough weights.',
  )


def _is_looked_at(shape: tuple[int, ...], channels: int) -> bool:
  if len(shape) != 4 or shape[:2] == (1, 1):
    return False
  many = np.prod(shape[:3]) >= base.LEAST_WEIGHTS
  return bool(many or shape[2] == channels)
