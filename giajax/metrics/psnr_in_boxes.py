"""PSNR of the pixels inside of objects' boxes.

  PSNR = -10 log10 mean over pixels in any box of (x - x_hat)^2           (dB)

What surrounds the objects, and the bars of a letterbox, do not count. NaN for
an image without objects. Ours.
"""

from collections.abc import Callable

import numpy as np

from giajax import types
from giajax.metrics import base
from giajax.metrics import psnr
from giajax.tasks.parts import objects


def psnr_in_boxes(
  x: np.ndarray, x_hat: np.ndarray, batch: types.Batch
) -> np.ndarray:
  """Returns the PSNR inside of boxes in dB, [B] float32, at most `psnr.CAP`.

  Args:
    x: [B, H, W, C] in [0, 1].
    x_hat: as `x`.
    batch: the true images with their objects.
  """
  inside = masks(objects.of(batch.y), x.shape[1:3])
  errors = np.square(np.float64(x) - x_hat).mean(-1)
  counts = inside.sum((1, 2))
  mse = np.where(inside, errors, 0.0).sum((1, 2)) / np.maximum(counts, 1)
  values = -10 * np.log10(np.maximum(mse, 10 ** (-psnr.CAP / 10)))
  return np.where(counts > 0, values, np.nan).astype(np.float32)


def masks(y: objects.Objects, shape: tuple[int, int]) -> np.ndarray:
  """Returns which pixels have their centre in a box, [B, H, W] bool.

  Args:
    y: the objects.
    shape: (H, W).
  """
  height, width = shape
  rows = ((np.arange(height) + 0.5) / height)[:, None]
  columns = ((np.arange(width) + 0.5) / width)[None]
  left, top, right, bottom = np.moveaxis(np.asarray(y.boxes), -1, 0)[
    ..., None, None
  ]
  inside = (rows >= top) & (rows < bottom)
  inside = inside & (columns >= left) & (columns < right)
  return (inside & np.asarray(y.valid)[..., None, None]).any(1)


def prepare(audited: base.Audited, asked: bool) -> Callable[..., np.ndarray]:
  """PSNR of the pixels inside of boxes.

  Raises:
    ValueError: a task without boxes.
  """
  del asked
  if 'boxes' not in audited.task.facts:
    raise ValueError(
      'Expected task=detection for psnr_in_boxes; got a task without boxes; '
      'leave psnr_in_boxes out'
    )
  return psnr_in_boxes


PSNR = base.Metric(
  name='psnr_in_boxes',
  label='PSNR in boxes',
  unit='dB',
  form='.2f',
  meaning='PSNR of the pixels inside of the boxes of objects alone.',
  source='',
  needs=('x', 'x_hat', 'batch'),
  prepare=prepare,
  partial=True,
)
