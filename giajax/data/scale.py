"""The units of inputs, and the way to [0, 1] and back.

Attacks and metrics see every channel in [0, 1]. A channel of another range is
mapped there by its lowest and highest value:

  x = (v - low) / (high - low)

A row of a table is an image of one pixel, whose channels are the columns.
"""

from collections.abc import Sequence
import math
import numbers
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from giajax import images
from giajax import printable

_ADVICE = 'divide bytes by 255, or give their range by low and high'
_MOST = 100_000  # channels that are listed one by one
_ROUNDING = 1e-6  # how far outside of its range a value may be


class Scale(NamedTuple):
  """The range of each channel, and what it is called.

  Attributes:
    low: [C] the values that become 0.
    high: [C] the values that become 1.
    names: [C] what the channels are called, or () for no names.
  """

  low: tuple[float, ...]
  high: tuple[float, ...]
  names: tuple[str, ...] = ()


def make(
  low: float | Sequence[float],
  high: float | Sequence[float],
  names: Sequence[str],
  channels: int,
) -> Scale | None:
  """Returns the scale of so many channels; None for [0, 1] without names.

  Args:
    low: the lowest value of each channel, or one for all.
    high: the highest value of each channel, or one for all.
    names: the name of each channel, or none.
    channels: C, the number of channels.

  Raises:
    ValueError: another number of values than of channels, numbers that are not
      finite, or a range without width.
  """
  plain = all(map(_is_finite, (low, high))) and (low, high) == (0, 1)
  if plain and not names:
    return None
  if channels > _MOST:
    raise ValueError(
      f'Expected at most {_MOST} channels with ranges; got {channels}; '
      'leave low, high and columns out'
    )
  ranges = []
  for name, value in (('low', low), ('high', high)):
    single = not isinstance(value, Sequence | np.ndarray)
    values = [value] * channels if single else [*value]
    if not all(map(_is_finite, values)):
      raise ValueError(
        f'Expected finite numbers for {name}; got {name}={value}; correct them'
      )
    if len(values) != channels:
      raise ValueError(
        f'Expected one {name} or one for each of {channels} channels; got '
        f'{len(values)}; add or remove some'
      )
    ranges.append(tuple(map(float, values)))
  wrong = [i for i, (a, b) in enumerate(zip(*ranges)) if not a < b]
  if wrong:
    i = wrong[0]
    raise ValueError(
      f'Expected low < high of every channel; got low={ranges[0][i]}, '
      f'high={ranges[1][i]} of channel {i}; correct them'
    )
  if names and len(names) != channels:
    raise ValueError(
      f'Expected a name for each of {channels} channels; got {len(names)} in '
      'columns; add or remove some'
    )
  if {*ranges[0]} == {0.0} and {*ranges[1]} == {1.0} and not names:
    return None
  return Scale(ranges[0], ranges[1], tuple(map(printable.line, names)))


def _is_finite(value: Any) -> bool:
  number = isinstance(value, numbers.Real) and not isinstance(value, bool)
  return number and math.isfinite(value)


def to_unit(
  values: npt.ArrayLike, scale: Scale | None, what: str
) -> np.ndarray:
  """Returns values as float32 in [0, 1].

  Args:
    values: [..., C], floats in the unit of the scale, or bytes, which become
      v / 255 where there is no scale.
    scale: their scale, None for [0, 1].
    what: they are, for the message.

  Raises:
    ValueError: they are neither floats nor bytes, or outside their range.
  """
  values = np.asarray(values)
  if values.dtype == np.uint8 and scale is None:
    return values / np.float32(255)
  if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
    raise ValueError(
      f'Expected numbers in {what}; got dtype={values.dtype}; convert them'
    )
  if scale is None:
    images.check_range(values, what, advice=_ADVICE)
    return np.asarray(values, np.float32)
  low, high = map(np.asarray, scale[:2])
  x = (np.asarray(values, np.float64) - low) / (high - low)
  good = (x >= -_ROUNDING) & (x <= 1 + _ROUNDING)  # false for NaN
  if not good.all():
    channel = int(np.argwhere(~good)[0][-1])
    name = scale.names[channel] if scale.names else f'channel {channel}'
    raise ValueError(
      f'Expected values of {name} of {what} from {low[channel]:g} to '
      f'{high[channel]:g}; got '
      f'{values[~good][0]:g} ({int((~good).sum())} of {good.size} values are '
      'outside); set low and high to the range of each channel'
    )
  return np.clip(x, 0, 1).astype(np.float32)


def from_unit(x: npt.ArrayLike, scale: Scale | None) -> np.ndarray:
  """Returns values [..., C] in the unit of the scale, float64."""
  x = np.asarray(x, np.float64)
  if scale is None:
    return x
  low, high = map(np.asarray, scale[:2])
  return low + x * (high - low)


def shape_of(shape: Sequence[int]) -> tuple[int, int, int]:
  """Returns (H, W, C) of images, and (1, 1, F) of rows of F numbers."""
  return (1, 1, *shape) if len(shape) == 1 else tuple(shape)  # pyrefly: ignore


def is_row(image_shape: Sequence[int]) -> bool:
  """Returns whether (H, W, C) is that of a row of a table."""
  return tuple(image_shape[:2]) == (1, 1)
