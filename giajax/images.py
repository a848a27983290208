"""Value ranges of images, and grids of them for figures."""

import math

import numpy as np
import numpy.typing as npt


def check_range(x: npt.ArrayLike, name: str) -> None:
  """Checks that every value is in [0, 1].

  Args:
    x: images of any shape.
    name: what the message calls them.

  Raises:
    ValueError: a value is NaN or outside [0, 1].
  """
  x = np.asarray(x)
  wrong = ~((x >= 0) & (x <= 1))  # true for NaN as well
  if wrong.any():
    raise ValueError(
      f'Expected {name} in [0, 1] without NaN; got {name} with '
      f'min={x.min():g}, max={x.max():g} ({int(wrong.sum())} of {x.size} '
      'values are wrong); divide bytes by 255, or clip'
    )


def to_uint8(x: npt.ArrayLike) -> np.ndarray:
  """Returns bytes for display, rounded to nearest, in the shape of `x`.

  A figure must be drawable of a failed run too: values outside [0, 1] are
  clipped and NaN becomes black. Where they are errors, call `check_range`.

  Args:
    x: images in [0, 1], of any shape.
  """
  x = np.nan_to_num(np.asarray(x, np.float32), nan=0.0)
  return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)


def grid(images: npt.ArrayLike, columns: int, padding: int = 2) -> np.ndarray:
  """Returns images laid out row by row, on white.

  Args:
    images: [N, H, W, C] in [0, 1].
    columns: images in a row.
    padding: pixels between and around them.

  Returns:
    [rows * (H + padding) + padding, columns * (W + padding) + padding, C]
    float32, rows = ceil(N / columns).

  Raises:
    ValueError: `images` is no stack of images, or the layout is impossible.
  """
  images = np.asarray(images, np.float32)
  if images.ndim != 4 or not len(images):
    raise ValueError(
      'Expected images [N, H, W, C] with N >= 1; got '
      f'shape={images.shape}; stack them along a first axis'
    )
  if columns < 1 or padding < 0:
    raise ValueError(
      'Expected columns >= 1 and padding >= 0; got '
      f'columns={columns}, padding={padding}; correct them'
    )
  number, height, width, channels = images.shape
  rows = math.ceil(number / columns)
  step_y, step_x = height + padding, width + padding
  canvas = np.ones(
    (rows * step_y + padding, columns * step_x + padding, channels),
    np.float32,
  )
  for i, image in enumerate(images):
    y = padding + i // columns * step_y
    x = padding + i % columns * step_x
    canvas[y : y + height, x : x + width] = image
  return canvas
