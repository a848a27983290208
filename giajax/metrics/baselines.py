"""Trivial guesses that an attack must beat: they never see the update.

Both take a sample of the data set that contains no image of the batch
(`data.cases.held_out`), and return one candidate a slot.
"""

import numpy as np
import numpy.typing as npt


def mean_image(sample: npt.ArrayLike, batch_size: int) -> np.ndarray:
  """Returns the mean of the sample in every slot, [B, H, W, C] float32.

  The guess of least expected MSE among constants, and blurred: it is strong in
  PSNR and weak in SSIM.

  Args:
    sample: [S, H, W, C] images in [0, 1].
    batch_size: B.

  Raises:
    ValueError: the sample is no non-empty stack of images.
  """
  sample = _checked(sample)
  return np.repeat(sample.mean(axis=0, keepdims=True), batch_size, axis=0)


def other_images(sample: npt.ArrayLike, batch_size: int) -> np.ndarray:
  """Returns another image of the data set in every slot, [B, H, W, C] float32.

  Slot i holds sample i mod S, a real image with the wrong content: weak in
  PSNR, with natural structure.

  Args:
    sample: [S, H, W, C] images in [0, 1], in random order.
    batch_size: B.

  Raises:
    ValueError: the sample is no non-empty stack of images.
  """
  sample = _checked(sample)
  return sample[np.arange(batch_size) % len(sample)]


def _checked(sample: npt.ArrayLike) -> np.ndarray:
  sample = np.asarray(sample, np.float32)
  if sample.ndim != 4 or not len(sample):
    raise ValueError(
      'Expected a sample [S, H, W, C] with S >= 1; got '
      f'shape={sample.shape}; draw one with cases.held_out'
    )
  return sample
