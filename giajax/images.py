"""Value ranges of images."""

import numpy as np
import numpy.typing as npt


def check_range(
  x: npt.ArrayLike,
  name: str,
  *,
  advice: str = 'divide bytes by 255, or clip',
) -> None:
  """Checks that every value is in [0, 1].

  Args:
    x: images of any shape.
    name: the name of the images in the message.
    advice: the last part of the sentence, what to do.

  Raises:
    ValueError: a value is NaN or outside [0, 1].
  """
  x = np.asarray(x)
  wrong = ~((x >= 0) & (x <= 1))  # true for NaN as well
  if wrong.any():
    raise ValueError(
      f'Expected {name} in [0, 1] without NaN; got {name} with '
      f'min={x.min():g}, max={x.max():g} ({int(wrong.sum())} of {x.size} '
      f'values are wrong); {advice}'
    )


def to_uint8(x: npt.ArrayLike) -> np.ndarray:
  """Returns bytes for display, rounded to nearest, in the shape of `x`.

  A figure of a failed run must be drawable, too: values outside [0, 1] are
  clipped and NaN becomes black. Call `check_range` if they are errors.

  Args:
    x: images in [0, 1], of any shape.
  """
  x = np.nan_to_num(np.asarray(x, np.float32), nan=0.0)
  return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)
