"""Bins: units with nearly the same weights, distinguished only by their biases.

Robbing the Fed (Fowl et al., ICLR 2022, arXiv 2110.13057, section 4) sorts
images into bins by one linear functional: the rows of its imprint layer are
equal and the biases the negative cut-offs, in order. Neither the attack nor
this check needs the order. The score of a layer is a share of its units,
between 0 and 1: the largest group that is nearly parallel to one unit, |cosine|
> 0.95, and whose biases are all different. Layers with fewer than
`base.LEAST_WEIGHTS` weights per unit are passed over.

Honest models have no such group; the threshold is a tenth of the units.

It does not see bins whose rows differ, as in an imprint layer with as many
functionals as bins.
"""

import numpy as np

from giajax import types
from giajax.verify import base
from giajax.verify.parts import weights

_PARALLEL = 0.95
_STARTS = 64  # the number of drawn units whose group is looked at
_TINY = 1e-30


def monotone_biases(
  view: base.View, *, threshold: float = 0.1
) -> base.Verifier:
  """Near-identical rows that differ in their biases: the bins of an imprint.

  Args:
    view: what the client knows.
    threshold: the largest share that is accepted, of a layer's units.
  """
  del view
  return weights.of_layers(
    _score,
    threshold,
    'In {name} a share of {score} of the units has nearly the same weights, '
    'told apart by their biases (limit {limit}).',
    'No layer has biases and units of enough weights.',
  )


def _score(key: types.Array, kernel: weights.Kernel) -> float | None:
  """Returns the share of units in the largest group, 0 for one alone."""
  rows, bias = kernel.rows, kernel.bias
  if bias is None or rows.shape[1] < base.LEAST_WEIGHTS or len(bias) <= 2:
    return None
  norms = np.linalg.norm(rows, axis=1)
  unit = rows / np.maximum(norms, _TINY)[:, None]
  starts = weights.sample(key, len(rows), _STARTS)
  alike = np.abs(unit[starts] @ unit.T) > _PARALLEL
  # In units of the rows, so that multiples of one bin count once.
  cuts = np.round(bias / np.maximum(norms, _TINY), 6)
  most = max(len(np.unique(cuts[group])) for group in alike)
  return most / len(rows) if most > 1 else 0.0
