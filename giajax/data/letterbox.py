"""Letterboxing: a whole image in the middle of a square, and its boxes.

The longer side is scaled to that of the square, by bilinear interpolation; bars
of one grey fill the rest. Where bars differ by a pixel, the second is wider.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

GREY = 114  # of the bars that detectors are trained with


class Place(NamedTuple):
  """Where an image is in its square of `size` pixels."""

  top: int
  left: int
  height: int
  width: int
  size: int

  @property
  def corners(self) -> tuple[int, int, int, int]:
    """(top, left, bottom, right), the last two behind the image."""
    bottom, right = self.top + self.height, self.left + self.width
    return self.top, self.left, bottom, right


def place(height: int, width: int, size: int) -> Place:
  """Returns where an image of (height, width) is in a square of `size`."""
  scale = size / max(height, width)
  h, w = (max(1, round(side * scale)) for side in (height, width))
  top, left = (round((size - side) / 2 - 0.1) for side in (h, w))
  return Place(top, left, h, w, size)


def pixels(image: Image.Image, at: Place, fill: int = GREY) -> np.ndarray:
  """Returns [size, size, 3] float32 in [0, 1].

  Args:
    image: an image of any size.
    at: its place.
    fill: the grey level of the bars, 0 to 255.
  """
  square = Image.new('RGB', (at.size, at.size), (fill,) * 3)
  shape = (at.width, at.height)
  whole = image.convert('RGB')
  if whole.size != shape:
    whole = whole.resize(shape, Image.Resampling.BILINEAR)
  square.paste(whole, (at.left, at.top))
  return np.asarray(square, np.float32) / np.float32(255)


def moved(boxes: npt.ArrayLike, at: Place) -> np.ndarray:
  """Returns boxes of an image as boxes of its square, [n, 4] float32.

  Args:
    boxes: [n, 4] (left, top, right, bottom) in [0, 1], relative to the image.
    at: its place.
  """
  boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
  scale = np.array([at.width, at.height] * 2)
  start = np.array([at.left, at.top] * 2)
  return ((boxes * scale + start) / at.size).astype(np.float32)
