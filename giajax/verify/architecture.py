"""Layers, shapes and counts against the agreed ones.

What Robbing the Fed and LOKI do shows here at once, whatever their weights: a
layer more than was agreed. A linear layer that reads all pixels and another
that writes as many, in front of a convolution, is named even where it was
agreed on: no image classifier needs one (Fowl et al., Robbing the Fed, ICLR
2022, arXiv 2110.13057, section 4, put theirs there).
"""

import math

import numpy as np

from giajax import archives
from giajax import trees
from giajax import types
from giajax.models import base as models
from giajax.models import inspect
from giajax.verify import base


def architecture(view: base.View, *, threshold: float = 0.0) -> base.Verifier:
  """Surplus, missing and misshapen parameters, and a linear bottleneck.

  Args:
    view: what the client knows.
    threshold: number of findings that is still accepted.
  """
  agreed = inspect.abstract_variables(view.net)
  wanted = _shapes(agreed)
  pixels = math.prod(view.net.spec.image_shape)

  def verify(
    key: types.Array, message: types.ServerMessage, probe: types.Batch
  ) -> base.Verdict:
    del key, probe
    found = _shapes(message.variables)
    common = wanted.keys() & found.keys()
    wrong = sorted(n for n in common if wanted[n] != found[n])
    troubles = {
      'surplus': sorted(found.keys() - wanted.keys()),
      'missing': sorted(wanted.keys() - found.keys()),
      'misshapen': [f'{n} {found[n]} for {wanted[n]}' for n in wrong],
      'linear bottleneck in front of a convolution': bottleneck(
        message, pixels
      ),
    }
    counts, agreed_count = map(_total, (found, wanted))
    listed = '; '.join(
      f'{kind}: {archives.listed(names)}'
      for kind, names in troubles.items()
      if names
    )
    return base.verdict(
      sum(map(len, troubles.values())),
      threshold,
      '{count:,} parameters and buffers where {agreed:,} were agreed on'
      + (': {listed}.' if listed else ', all of the agreed shapes.'),
      count=counts,
      agreed=agreed_count,
      listed=listed,
    )

  return verify


def bottleneck(message: types.ServerMessage, pixels: int) -> list[str]:
  """Returns linear layers that read or write all pixels, beside convolutions.

  Args:
    message: what was received.
    pixels: numbers of an image.
  """
  kernels = list(base.kernels(message))
  linear = [k for k in kernels if k.weight.ndim == 2]
  reads = [k for k in linear if k.weight.shape[0] == pixels]
  writes = [k for k in linear if k.weight.shape[1] == pixels]
  if not (reads and writes and any(k.weight.ndim == 4 for k in kernels)):
    return []
  shapes = {k.name: k.weight.shape for k in (*reads, *writes)}
  return [f'{name} {shape[0]} to {shape[1]}' for name, shape in shapes.items()]


def _shapes(variables: types.Variables) -> dict[str, tuple[int, ...]]:
  parts = (models.whole(variables), variables.stats)
  return {
    name: tuple(leaf.shape)
    for part in parts
    for name, leaf in trees.named_leaves(part).items()
  }


def _total(shapes: dict[str, tuple[int, ...]]) -> int:
  return int(sum(np.prod(shape, dtype=float) for shape in shapes.values()))
