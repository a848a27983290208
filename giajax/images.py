"""Value ranges of images."""

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
