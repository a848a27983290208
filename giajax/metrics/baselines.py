"""Guesses that an attack must beat: they never see the update.

They know other images and no image of the batch, and return one candidate per
slot. The mean image is the mean of a fixed sample without the images of the
batch, so the sample is read once per data set.

Two guesses are no attacker's, because somebody chooses them who knows the
truth: the nearest auxiliary image, and the flat one, which stands for a data
set's mean where nothing is known of the data set. Where an attack comes no
nearer, what it shows was known before the update.
"""

from collections.abc import Callable, Iterator
import hashlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from giajax import images as pixels
from giajax import types

AUXILIARY = 10_000  # the most auxiliary images among which the nearest is
# What an attack is compared with, in the order of the tables, and what readers
# call it.
BASELINES = {
  'mean_image': 'Mean image of the data set',
  'other_image': 'Another image of the data set',
  'flat_image': 'One colour, the mean of the true image',
  'grey_image': 'The middle of every range: an image of even grey',
  'start': 'Where the attack started',
  'class_sample': 'A random image of the generator, of the true class if it '
  'has classes',
  'nearest_auxiliary': f'The nearest of up to {AUXILIARY:,} auxiliary images',
  'noise_gradient': 'The same attack on a noise gradient',
}
_BLOCK = 32  # images that are in memory together


class SampleSum(NamedTuple):
  """A sample of a data set, and its sum."""

  indices: np.ndarray  # [S] int32, all different
  total: np.ndarray  # [H, W, C] float64, the sum of its images


class Auxiliary(NamedTuple):
  """A sample of auxiliary images, rounded to 256 levels."""

  indices: np.ndarray  # [S] int32, all different
  levels: np.ndarray  # [S, H * W * C] uint8
  digests: frozenset[bytes]  # of the images

  def contains(self, x: npt.ArrayLike) -> bool:
    """Returns whether any of the images [B, H, W, C] is in the sample."""
    return any(_digest(own) in self.digests for own in _levels(x))


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
  indices = _checked(indices)
  sums = [np.asarray(x, np.float64).sum(axis=0) for x in _blocks(take, indices)]
  return SampleSum(indices, np.sum(sums, axis=0))


def auxiliary(
  take: Callable[[npt.ArrayLike], types.Batch], indices: npt.ArrayLike
) -> Auxiliary:
  """Returns a sample of auxiliary images, read in blocks.

  Args:
    take: the `take` of the auxiliary data.
    indices: the indices of the images, [S], S >= 1; each takes a byte a number.

  Raises:
    ValueError: no image, or one that cannot be read or is not in [0, 1].
  """
  indices = _checked(indices)
  blocks = []
  for x in _blocks(take, indices):
    pixels.check_range(x, 'the auxiliary images')
    blocks.append(_levels(x))
  levels = np.concatenate(blocks)
  return Auxiliary(indices, levels, frozenset(map(_digest, levels)))


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


def flat_image(x: npt.ArrayLike) -> np.ndarray:
  """Returns images of one colour each, its own mean, [B, H, W, C] float32.

  Args:
    x: [B, H, W, C] the images of the batch.
  """
  x = np.asarray(x, np.float64)
  mean = x.mean(axis=(1, 2), keepdims=True).astype(np.float32)
  return np.broadcast_to(mean, x.shape).copy()


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


def nearest(reference: Auxiliary, x: npt.ArrayLike) -> np.ndarray | None:
  """Returns the index of the auxiliary image of least MSE for each, [B] int32.

  Images that equal one of the batch are left out; None if that leaves none.

  Args:
    reference: the auxiliary images.
    x: [B, H, W, C] the images of the batch.
  """
  # Integers, which float64 adds and multiplies exactly.
  x = _levels(x).astype(np.float64)
  norms = (x * x).sum(axis=1)
  distances = np.empty((len(reference.levels), len(x)))
  for i in range(0, len(distances), _BLOCK):
    block = reference.levels[i : i + _BLOCK].astype(np.float64)
    own = (block * block).sum(axis=1, keepdims=True)
    distances[i : i + _BLOCK] = own - 2 * block @ x.T + norms
  distances[(distances == 0).any(axis=1)] = np.inf
  if np.isinf(distances).all():
    return None
  return reference.indices[distances.argmin(axis=0)]


def _checked(indices: npt.ArrayLike) -> np.ndarray:
  indices = np.asarray(indices)
  if indices.ndim != 1 or not indices.size:
    raise ValueError(
      f'Expected indices [S] with S >= 1; got shape={indices.shape}; draw some '
      'with cases.held_out'
    )
  return indices


def _blocks(take, indices: np.ndarray) -> Iterator[npt.ArrayLike]:
  """Yields the images of a sample, some at a time."""
  for i in range(0, len(indices), _BLOCK):
    yield take(indices[i : i + _BLOCK]).x


def _levels(x: npt.ArrayLike) -> np.ndarray:
  """Returns images as levels from 0 to 255, [B, H * W * C] uint8."""
  return pixels.to_uint8(x).reshape(np.shape(x)[0], -1)


def _digest(levels: np.ndarray) -> bytes:
  return hashlib.sha256(levels.tobytes()).digest()
