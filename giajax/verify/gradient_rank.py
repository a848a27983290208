"""How many images the gradient of the first linear layer keeps apart.

The gradient of a linear layer is sum_i x_i c_i', of rank B at most, with x_i
its input for image i and c_i the derivatives with respect to its units. In
honest networks, the images of a batch reach nearly the same units. Weights that
isolate images, such as trap weights (Boenisch et al., EuroS&P 2023, arXiv
2112.02918), send each to units of its own, from which it can be read off. With
A [B, units] the |c_i|, each row scaled to norm 1, and r = |A|_F^2 / |A|_2^2 its
stable rank, the score is (r - 1) / (B - 1), which has no unit: 0 where all
images reach the same units alike, 1 where no two share any. The images
themselves do not enter.

Honest models have at most 0.1 on 16 images; 32 fresh MLPs, with up to 0.13 on
the 8 of the smallest probe, set the threshold.

It does not see a layer that isolates one image and treats all others alike, nor
anything in networks whose only linear layer is the classifier.
"""

import numpy as np

from giajax.verify import base
from giajax.verify.parts import passes
from giajax.verify.parts import trial


def gradient_rank(view: base.View, *, threshold: float = 0.2) -> base.Verifier:
  """The stable rank of the first linear layer's gradients.

  Args:
    view: what the client knows.
    threshold: the largest score that is accepted, from 0, rank 1, to 1, the
      largest rank possible.
  """

  def judge(path: str, examples: passes.Examples) -> base.Verdict:
    rows = np.abs(np.asarray(examples.cotangents, float))
    norms = np.linalg.norm(rows, axis=1)
    rows = rows[norms > 0] / norms[norms > 0, None]
    if len(rows) < 2:
      text = f'Fewer than two images of the probe reach {path}.'
      return base.not_run(text)
    rank = len(rows) / np.linalg.norm(rows, 2) ** 2
    return base.verdict(
      max(0.0, (rank - 1) / (len(rows) - 1)),
      threshold,
      '{count} images reach units of {name} with a stable rank of {rank:.3g}: '
      '{score} on a scale from the same units, 0, to no unit in common, 1 '
      '(limit {limit}).',
      rank=rank,
      name=path,
      count=len(rows),
    )

  return trial.of_reader(view, judge)
