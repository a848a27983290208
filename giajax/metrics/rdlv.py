"""Relative data leakage value: what a reconstruction gains over a prior image.

  RDLV = (sim(x, x_hat) - sim(x, p)) / sim(x, p)

x is the true image, x_hat its reconstruction, p a public image, and sim a
similarity, here SSIM. 0 means that the update says nothing more than p does.
Hatamizadeh, Yin, Molchanov, Myronenko, Li, Dogra, Feng, Flores, Kautz, Xu and
Roth, "Do gradient inversion attacks make federated learning unsafe?", IEEE TMI
2023, arXiv:2202.06924, where p is the image that the attack starts from, an
average chest X-ray. Guo et al., TPAMI 2025, arXiv:2503.11514, report it without
naming their p, and their released code does not compute it. The engine takes
the mean of other images of the data set, since most attacks start from noise,
which is similar to nothing.
"""

import numpy as np
import numpy.typing as npt

from giajax.metrics import base


def rdlv(similarity: npt.ArrayLike, prior: npt.ArrayLike) -> np.ndarray:
  """Returns the relative gain in similarity, [...] float32, above -inf.

  It is NaN where the prior is not similar at all (sim <= 0), because then there
  is nothing to relate to. The smaller sim(x, p), the less a large value means.

  Args:
    similarity: [...] of each reconstruction to its image. NaN, a failed
      reconstruction, counts as 0.
    prior: as `similarity`, of the prior image.
  """
  similarity = np.nan_to_num(np.asarray(similarity, np.float32), nan=0.0)
  prior = np.asarray(prior, np.float32)
  usable = np.where(prior > 0, prior, np.nan)
  return (similarity - usable) / usable


RDLV = base.Metric(
  name='rdlv',
  label='RDLV',
  unit='',
  form='.2f',
  meaning='What SSIM gains over the mean image of the data set, as a multiple '
  'of that image’s own SSIM; 0 is no gain.',
  source='Hatamizadeh et al., IEEE TMI 2023, arXiv:2202.06924',
  needs=('ssim', 'ssim_mean_image'),
  score=rdlv,
  partial=True,
)
