"""PSNR, SSIM and LPIPS of a part of each image.

The *content* is a letterboxed image without its bars, which are easy to find
and lift every score of a whole image. The *boxes* are those of its objects, as
one region: a pixel in two of them counts once. A pixel belongs to a region if
its centre does.

  PSNR = -10 log10 mean over pixels of the region of (x - x_hat)^2         (dB)
  SSIM = mean of the SSIM map over windows whose centre is in the region

so that windows at its edge see a few pixels of what is around. LPIPS is that of
the content, cut out; the union of boxes is no image, and most boxes are too
small for its network. A score is NaN where a region holds no pixel, no centre
of a window, or, for LPIPS, a side below `lpips.MIN_SIDE`. Ours.
"""

from collections.abc import Callable
import functools

import jax
import numpy as np
import numpy.typing as npt

from giajax import types
from giajax.metrics import base
from giajax.metrics import lpips
from giajax.metrics import psnr
from giajax.metrics import ssim
from giajax.tasks.parts import objects

_local = jax.jit(ssim.local)


def psnr_in(x: np.ndarray, x_hat: np.ndarray, inside: np.ndarray) -> np.ndarray:
  """Returns the PSNR of a region in dB, [B] float32, at most `psnr.CAP`.

  Args:
    x: [B, H, W, C] in [0, 1].
    x_hat: as `x`.
    inside: the pixels of the region, [B, H, W] bool.
  """
  errors = np.square(x.astype(np.float64) - x_hat).mean(-1)
  floor = np.float32(10 ** (-psnr.CAP / 10))
  return -10 * np.log10(np.maximum(_mean(errors, inside), floor))


def ssim_in(x: np.ndarray, x_hat: np.ndarray, inside: np.ndarray) -> np.ndarray:
  """Returns the SSIM of a region, [B] float32.

  Args:
    x: [B, H, W, C] in [0, 1].
    x_hat: as `x`.
    inside: the pixels of the region, [B, H, W] bool.
  """
  values = np.asarray(_local(x, x_hat), np.float64).mean(-1)
  top, left = (
    (whole - part) // 2
    for whole, part in zip(inside.shape[1:], values.shape[1:])
  )
  centres = inside[:, top:, left:][:, : values.shape[1], : values.shape[2]]
  return _mean(values, centres)


def lpips_in(
  x: np.ndarray,
  x_hat: np.ndarray,
  content: npt.ArrayLike,
  distance: base.Score,
) -> np.ndarray:
  """Returns the LPIPS of rectangles, [B] float32.

  Args:
    x: [B, H, W, C] in [0, 1].
    x_hat: as `x`.
    content: the rectangles, as in `base.FACTS`.
    distance: what `lpips.load` returns; it compiles once for each shape.
  """
  values = []
  for a, b, (top, left, bottom, right) in zip(x, x_hat, np.asarray(content)):
    own = [image[None, top:bottom, left:right] for image in (a, b)]
    small = min(own[0].shape[1:3]) < lpips.MIN_SIDE
    values.append(np.nan if small else float(distance(*own)[0]))
  return np.array(values, np.float32)


def of_content(content: npt.ArrayLike, shape: tuple[int, int]) -> np.ndarray:
  """Returns which pixels are no bars, [B, H, W] bool.

  Args:
    content: the rectangles, as in `base.FACTS`.
    shape: (H, W).
  """
  return _rectangles(np.asarray(content), *map(np.arange, shape))


def of_boxes(y: objects.Objects, shape: tuple[int, int]) -> np.ndarray:
  """Returns which pixels have their centre in a box, [B, H, W] bool.

  Args:
    y: the objects.
    shape: (H, W).
  """
  rows, columns = ((np.arange(side) + 0.5) / side for side in shape)
  boxes = np.asarray(y.boxes)[..., [1, 0, 3, 2]]
  inside = _rectangles(boxes, rows, columns)
  return np.any(inside & np.asarray(y.valid)[..., None, None], axis=1)


def _rectangles(
  corners: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
  """Returns what is in rectangles [..., 4] (top, left, bottom, right)."""
  top, left, bottom, right = np.moveaxis(corners, -1, 0)[..., None, None]
  rows = rows[:, None]
  inside = (rows >= top) & (rows < bottom)
  return inside & (columns >= left) & (columns < right)


def _mean(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
  """Returns the means over regions, [B] float32; NaN if empty."""
  counts = inside.sum((1, 2))
  means = np.where(inside, values, 0.0).sum((1, 2)) / np.maximum(counts, 1)
  return np.where(counts > 0, means, np.nan).astype(np.float32)


_Measure = Callable[..., np.ndarray]


def _in_content(measure: _Measure) -> Callable[..., base.Score]:
  """Returns the `prepare` of a measure of the content."""

  def score(x, x_hat, content):
    return measure(x, x_hat, of_content(content, x.shape[1:3]))

  return lambda audited, asked: score


def _in_boxes(measure: _Measure) -> Callable[..., base.Score]:
  """Returns the `prepare` of a measure of what is in boxes."""

  def prepare(audited: base.Audited, asked: bool) -> base.Score:
    del asked
    if 'boxes' not in audited.task.facts:
      raise ValueError(
        'Expected task=detection for regions.boxes; got a task without boxes; '
        'leave regions.boxes out'
      )
    return score

  def score(x: np.ndarray, x_hat: np.ndarray, batch: types.Batch) -> np.ndarray:
    return measure(x, x_hat, of_boxes(objects.of(batch.y), x.shape[1:3]))

  return prepare


def _lpips_in_content(
  audited: base.Audited, path: str, asked: bool
) -> base.Score:
  """LPIPS of the content."""
  del asked
  return functools.partial(lpips_in, distance=lpips.prepare(audited, path))


def _of(whole: base.Metric, region: str, need: str, prepare) -> base.Metric:
  """Returns the metric of a region, by that of the whole image."""
  return whole._replace(
    name=f'{whole.name}_in_{region}',
    label=f'{whole.label} in {region}',
    meaning=f'{whole.label} of {_MEANINGS[region]} alone.',
    source='',
    needs=('x', 'x_hat', need),
    score=None,
    prepare=prepare,
    asked=(f'regions.{region}',),
    partial=True,
  )


_MEANINGS = {
  'content': 'the image without the bars of its letterbox',
  'boxes': 'what is inside of the boxes of objects',
}
PSNR_CONTENT = _of(psnr.PSNR, 'content', 'content', _in_content(psnr_in))
SSIM_CONTENT = _of(ssim.SSIM, 'content', 'content', _in_content(ssim_in))
LPIPS_CONTENT = _of(
  lpips.LPIPS, 'content', 'content', _lpips_in_content
)._replace(asked=('lpips', 'regions.content'))
PSNR_BOXES = _of(psnr.PSNR, 'boxes', 'batch', _in_boxes(psnr_in))
SSIM_BOXES = _of(ssim.SSIM, 'boxes', 'batch', _in_boxes(ssim_in))
