"""Layers, shapes and counts, compared with the agreed ones.

Robbing the Fed (Fowl et al., ICLR 2022, arXiv 2110.13057) and LOKI (Zhao et
al., IEEE S&P 2024, arXiv 2303.12233) add layers to the network that was agreed
on, which shows here whatever their weights are. A linear layer that reads all
pixels and another that writes as many, in front of a convolution, are named
even if they were agreed on: no image classifier needs them, and Robbing the Fed
puts its imprint there (section 4). The score is the number of such findings:
surplus, missing and misshapen parameters, and linear bottlenecks.

It does not see what a server does with layers that were agreed on.
"""

import math

import numpy as np

from giajax import archives
from giajax import trees
from giajax import types
from giajax.models import base as models
from giajax.models import inspect
from giajax.verify import base
from giajax.verify.parts import weights


def architecture(view: base.View, *, threshold: float = 0.0) -> base.Verifier:
  """Surplus, missing and misshapen parameters, and a linear bottleneck.

  Args:
    view: what the client knows.
    threshold: the number of findings that are still accepted.
  """
  reference = _shapes(inspect.abstract_variables(view.net))
  pixels = math.prod(view.net.spec.image_shape)

  def verify(
    key: types.Array, message: types.ServerMessage, probe: types.Batch
  ) -> base.Verdict:
    del key, probe
    shapes = _shapes(message.variables)
    common = reference.keys() & shapes.keys()
    wrong = sorted(n for n in common if reference[n] != shapes[n])
    findings = {
      'surplus': sorted(shapes.keys() - reference.keys()),
      'missing': sorted(reference.keys() - shapes.keys()),
      'misshapen': [f'{n} {shapes[n]} for {reference[n]}' for n in wrong],
      'linear bottleneck in front of a convolution': bottleneck(
        message, pixels
      ),
    }
    text = '; '.join(
      f'{kind}: {archives.listed(names)}'
      for kind, names in findings.items()
      if names
    )
    return base.verdict(
      sum(map(len, findings.values())),
      threshold,
      '{count:,} parameters and buffers where {agreed:,} were agreed on'
      + (': {findings}.' if text else ', all of the agreed shapes.'),
      count=_total(shapes),
      agreed=_total(reference),
      findings=text,
    )

  return verify


def bottleneck(message: types.ServerMessage, pixels: int) -> list[str]:
  """Returns linear layers that read or write all pixels, besides convolutions.

  Args:
    message: the message that was received.
    pixels: the number of values of an image.
  """
  kernels = list(weights.kernels(message))
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
