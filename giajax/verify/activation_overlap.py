"""Bins that overlap: units of a layer that depend on one number per image.

Behind the imprint layer of Robbing the Fed (Fowl et al., ICLR 2022, arXiv
2110.13057) the set of images that reach bin i contains the set of bin i + 1:
all units are shifts of one functional. With s the share of the first principal
component in the variance of the first linear layer's outputs over the probe,
with units scaled to variance 1, the score is -log10(1 - s), in decades. It
looks at what the units do with images, not at their weights: a map in front
that mixes pixels changes nothing.

It does not see bins of many functionals, and sees nothing at all in networks
whose only linear layer is the classifier.
"""

import numpy as np

from giajax.verify import base
from giajax.verify.parts import passes
from giajax.verify.parts import trial

_ROUNDING = 1e-7
_TINY = 1e-30


def activation_overlap(
  view: base.View, *, threshold: float = 0.9
) -> base.Verifier:
  """Units of the first linear layer that move together over the probe.

  Args:
    view: what the client knows.
    threshold: the largest score that is accepted, in decades.
  """

  def judge(path: str, examples: passes.Examples) -> base.Verdict:
    outputs = np.asarray(examples.outputs, float)
    centred = outputs - outputs.mean(0)
    size = centred.std(0)
    live = size > 1e-9 * max(size.max(), _TINY)
    spectrum = np.linalg.svd(centred[:, live] / size[live], compute_uv=False)
    energy = spectrum**2
    share = energy[0] / energy.sum() if energy.size else 0.0
    return base.verdict(
      -np.log10(max(1 - share, _ROUNDING)),
      threshold,
      'One number per image explains all but 10^-{score} of what the units of '
      '{name} compute (limit 10^-{limit}).',
      name=path,
    )

  return trial.of_reader(view, judge)
