"""Bins: units with nearly the same weights, told apart by their biases alone.

Robbing the Fed (Fowl et al., ICLR 2022, arXiv 2110.13057, section 4) sorts
images into bins by one linear functional: the rows of its imprint layer are
equal and the biases the negative cut-offs, in order. Sorting is not needed for
the attack and not for this check: the score of a layer is the largest share of
its units which are nearly parallel to one of them, |cosine| > 0.95, and whose
biases are all different. Layers with fewer than `base.LEAST_WEIGHTS` weights a
unit are passed over.

Honest models have no such group; the threshold is a tenth of the units.

It does not see bins behind which rows differ, as in an imprint layer of as many
functionals as bins.
"""

import numpy as np

from giajax import types
from giajax.verify import base

_PARALLEL = 0.95
_STARTS = 64  # units, drawn, whose group is looked at


def monotone_biases(
  view: base.View, *, threshold: float = 0.1
) -> base.Verifier:
  """Near-identical rows that differ in their biases: the bins of an imprint.

  Args:
    view: what the client knows.
    threshold: share of a layer's units.
  """
  del view

  def verify(
    key: types.Array, message: types.ServerMessage, probe: types.Batch
  ) -> base.Verdict:
    del probe
    scores = {
      kernel.name: _group(key, kernel.rows, kernel.bias)
      for kernel in base.kernels(message)
      if kernel.bias is not None
      and kernel.rows.shape[1] >= base.LEAST_WEIGHTS
      and len(kernel.bias) > 2
    }
    return base.largest(
      scores,
      threshold,
      'In {name} a share of {score} of the units has nearly the same weights '
      'and biases of its own (limit {limit}).',
      'No layer has biases and units of enough weights.',
    )

  return verify


def _group(key: types.Array, rows: np.ndarray, bias: np.ndarray) -> float:
  """Returns the share of units in the largest group, 0 for one alone."""
  norms = np.linalg.norm(rows, axis=1)
  unit = rows / np.maximum(norms, 1e-30)[:, None]
  starts = base.drawn(key, len(rows), _STARTS)
  alike = np.abs(unit[starts] @ unit.T) > _PARALLEL
  # In units of the rows, so that multiples of one bin count once.
  cuts = np.round(bias / np.maximum(norms, 1e-30), 6)
  sizes = [len(np.unique(cuts[group])) for group in alike]
  most = max(sizes)
  return most / len(rows) if most > 1 else 0.0
