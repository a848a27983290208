"""Decoded images that are kept, so that an experiment reads each one once.

All data sets of a process share the memory. The images that were used longest
ago are forgotten first.
"""

import collections
from collections.abc import Callable

import numpy as np

LIMIT = 1e9  # bytes; CIFAR-10 takes 0.6e9

Read = Callable[[int], np.ndarray]


class Memory:
  """Images by the function that reads them and their index.

  Attributes:
    limit: the largest number of bytes that it holds; a larger image is not
      kept.
    size: the number of bytes that it holds.
  """

  def __init__(self, limit: float):
    self.limit, self.size = limit, 0
    self._images: collections.OrderedDict[tuple[Read, int], np.ndarray] = (
      collections.OrderedDict()
    )

  def __call__(self, read: Read, index: int) -> np.ndarray:
    """Returns `read(index)`, which must not be written to."""
    key = (read, index)
    if key not in self._images:
      self._images[key] = read(index)
      self.size += self._images[key].nbytes
    image = self._images[key]
    self._images.move_to_end(key)
    while self.size > self.limit:
      self.size -= self._images.popitem(last=False)[1].nbytes
    return image


remembered = Memory(LIMIT)
