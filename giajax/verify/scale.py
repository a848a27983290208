"""Weights of a size that no initialisation and no training makes.

A kernel's gain is the root mean square of its weights times the square root of
the weights of one unit: sqrt(2) for He's initialisation, about what a layer
multiplies signals with. The score is the decimal logarithm of the largest gain,
|bias|, scale or mean of a normalisation, 0 below 1. Fishing's biases
of 1,000 and its features times 300 (Wen et al., ICML 2022, arXiv 2202.00580)
show here, as do imprint rows that are made steep.

Sizes too small say nothing: weight decay makes them, and with them running
variances of 1e-5.
"""

import numpy as np

from giajax import trees
from giajax import types
from giajax.models import base as models
from giajax.verify import base


def scale(view: base.View, *, threshold: float = 1.2) -> base.Verifier:
  """Extreme scale of any kernel, bias or normalisation.

  Args:
    view: what the client knows.
    threshold: decades, see above.
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
    return base.largest(
      {name: max(0.0, np.log10(max(s, 1e-30))) for name, s in sizes.items()},
      threshold,
      '{name} has a gain of 10^{score} (limit 10^{limit}).',
      'No parameters.',
    )

  return verify


def _size(name: str, leaf: np.ndarray) -> float:
  last = name.rpartition('.')[2]
  if not leaf.size:
    return 0.0
  if last == 'kernel':
    inputs = leaf.size // leaf.shape[-1]
    return float(np.sqrt(np.mean(np.square(leaf, dtype=float)) * inputs))
  if last == 'var':
    return 0.0
  return float(np.abs(leaf).max())
