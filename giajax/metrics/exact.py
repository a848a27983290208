"""Which images came back exactly, up to rounding.

At 40 dB the error is 2.6 grey levels: closed-form recoveries reach it, and
hardly anything else does.
"""

import numpy as np
import numpy.typing as npt

from giajax.metrics import base

THRESHOLD = 40.0  # dB


def exact(psnr: npt.ArrayLike) -> np.ndarray:
  """Returns 1 for an image at or above `THRESHOLD`, else 0, [B] float32.

  Args:
    psnr: PSNR of each image in dB, [B]; NaN is a failure.
  """
  return (np.asarray(psnr) >= THRESHOLD).astype(np.float32)


EXACT = base.Metric(
  name='exact',
  label='exact',
  unit='',
  form='.1%',
  meaning='Share of the images that came back up to rounding: a PSNR of at '
  f'least {THRESHOLD:g} dB.',
  source='',
  needs=('psnr',),
  score=exact,
  summary='mean',
)
