"""Trivial guesses that an attack must beat: they never see the update.

They know other images of the data set and no image of the batch, and return
one candidate per slot. The mean image is the mean of a fixed sample without the
images of the batch, so the sample is read once per data set.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from giajax import types

# What an attack is compared with, in the order of the tables, and what readers
# call it.
BASELINES = {
  'mean_image': 'Mean image of the data set',
  'other_image': 'Another image of the data set',
  'grey_image': 'An image of even grey',
  'start': 'Where the attack started',
  'noise_gradient': 'The same attack on a noise gradient',
}
_BLOCK = 32  # images that are in memory together


class SampleSum(NamedTuple):
  """A sample of a data set, and its sum."""

  indices: np.ndarray  # [S] int32, all different
  total: np.ndarray  # [H, W, C] float64, the sum of its images


def sample(
  take: Callable[[npt.ArrayLike], types.Batch], indices: npt.ArrayLike
) -> SampleSum:
  """Returns a sample, read in blocks.

  Args:
    take: the `take` of the data set.
    indices: the indices of the images, [S], S >= 1.

  Raises:
    ValueError: no image, or one that cannot be read.
  """
  indices = np.asarray(indices)
  if indices.ndim != 1 or not indices.size:
    raise ValueError(
      f'Expected indices [S] with S >= 1; got shape={indices.shape}; draw some '
      'with cases.held_out'
    )
  blocks = (
    np.asarray(take(indices[i : i + _BLOCK]).x, np.float64).sum(axis=0)
    for i in range(0, len(indices), _BLOCK)
  )
  return SampleSum(indices, np.sum([*blocks], axis=0))


def mean_image(
  reference: SampleSum, indices: npt.ArrayLike, x: npt.ArrayLike
) -> np.ndarray | None:
  """Returns the mean of a sample in every slot, [B, H, W, C] float32.

  The guess of least expected MSE among constants, and blurred: it is strong in
  PSNR and weak in SSIM. None if the batch holds the whole sample.

  Args:
    reference: the sample.
    indices: the indices of the images that form the batch, [B]; those that are
      in the sample as well are left out.
    x: [B, H, W, C] the images of the batch.
  """
  x = np.asarray(x, np.float64)
  shared = np.isin(indices, reference.indices)
  count = len(reference.indices) - int(shared.sum())
  if not count:
    return None
  mean = (reference.total - x[shared].sum(axis=0)) / count
  return np.repeat(mean[None].clip(0, 1).astype(np.float32), len(x), axis=0)


def other_images(images: npt.ArrayLike, batch_size: int) -> np.ndarray:
  """Returns another image of the data set in every slot, [B, H, W, C] float32.

  Slot i holds image i mod S, a real image with the wrong content: weak in PSNR,
  with natural structure.

  Args:
    images: [S, H, W, C] in [0, 1], outside the batch, in random order.
    batch_size: the batch size B.

  Raises:
    ValueError: `images` is no non-empty stack of images.
  """
  images = np.asarray(images, np.float32)
  if images.ndim != 4 or not len(images):
    raise ValueError(
      'Expected images [S, H, W, C] with S >= 1; got '
      f'shape={images.shape}; draw some with cases.held_out'
    )
  return images[np.arange(batch_size) % len(images)]
