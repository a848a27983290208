"""Mean squared error between a network's features of two images.

  FMSE = mean (f(a) - f(b))^2

The name is that of Geiping, Bauermeister, Droege and Moeller, "Inverting
gradients", NeurIPS 2020, arXiv:2003.14053, whose code uses the logits as f; the
code of `breaching` uses only the logits of the batch's classes. Here f is any
feature map: the engine takes what the audited network's classifier reads, in
inference mode, with the weights that the server sent. It has the unit of those
features: compare values of one network with the same weights only.
"""

import numpy as np
import numpy.typing as npt

from giajax.metrics import base


def fmse(f: npt.ArrayLike, g: npt.ArrayLike) -> np.ndarray:
  """Returns the error of each pair, [B] float32, 0 for equal features.

  Args:
    f: [B, ...] features of the true images.
    g: the same of the reconstructions; a NaN makes its error NaN.

  Raises:
    ValueError: the shapes differ.
  """
  f, g = np.asarray(f, np.float32), np.asarray(g, np.float32)
  if f.shape != g.shape:
    raise ValueError(
      f'Expected features of one shape; got f.shape={f.shape}, '
      f'g.shape={g.shape}; take both from the same layer'
    )
  return np.mean((f - g) ** 2, axis=tuple(range(1, f.ndim)))


FMSE = base.Metric(
  name='fmse',
  label='FMSE',
  unit='',
  form='.2g',
  meaning='Mean squared error of what the classifier of the audited network '
  'reads; lower is closer. Compare it only among results of one network with '
  'the same weights.',
  source='Geiping, Bauermeister, Droege and Moeller, NeurIPS 2020, '
  'arXiv:2003.14053',
  needs=('features', 'features_hat'),
  score=fmse,
  higher_is_better=False,
)
