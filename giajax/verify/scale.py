"""Weights of a size that no initialisation and no training produces.

A kernel's gain is the root mean square of its weights times the square root of
the weights of one unit: sqrt(2) for He's initialisation, about what a layer
multiplies signals with. The score is the decimal logarithm, in decades, of the
largest gain, |bias|, or |scale| or |mean| of a normalisation; 0 for sizes below
1. Fishing's biases of 1,000 and its features times 300 (Wen et al., ICML 2022,
arXiv 2202.00580) show here, as do imprint rows that are made steep.

It does not see sizes that are too small, which weight decay produces as well.
It does not look at variances at all, not even at running variances of 1e-5;
`running_statistics` compares those with the client's images.
"""

import numpy as np

from giajax import trees
from giajax import types
from giajax.models import base as models
from giajax.verify import base

_TINY = 1e-30


def scale(view: base.View, *, threshold: float = 1.2) -> base.Verifier:
  """Extreme scale of any kernel, bias or normalisation.

  Args:
    view: what the client knows.
    threshold: the largest score that is accepted, in decades.
  """
  del view

  def verify(
    key: types.Array, message: types.ServerMessage, probe: types.Batch
  ) -> base.Verdict:
    del key, probe
    parts = models.whole(message.variables), message.variables.stats
    leaves = {
      name: np.asarray(leaf)
      for part in parts
      for name, leaf in trees.named_leaves(part).items()
    }
    sizes = {name: _size(name, leaf) for name, leaf in leaves.items()}
    return base.worst_layer(
      {name: max(0.0, np.log10(max(s, _TINY))) for name, s in sizes.items()},
      threshold,
      'The gain or size of {name} is 10^{score} (limit 10^{limit}).',
      'No parameters.',
    )

  return verify


def _size(name: str, leaf: np.ndarray) -> float:
  """Returns the gain of a kernel, the largest size of anything else."""
  last = name.rpartition('.')[2]
  if not leaf.size:
    return 0.0
  if last == 'kernel':
    inputs = leaf.size // leaf.shape[-1]
    return float(np.sqrt(np.mean(np.square(leaf, dtype=float)) * inputs))
  if last == 'var':
    return 0.0
  return float(np.abs(leaf).max())
