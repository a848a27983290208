"""Numbers and values as text, the same in every table and sentence."""

from collections.abc import Iterable
import math
from typing import Any

import numpy as np

from giajax.results import columns

_NUMBERS = (int, float, np.number, np.ndarray)


def number(value: Any) -> float:
  """Returns a float, NaN for null and for anything that is not a number."""
  return float(value) if isinstance(value, _NUMBERS) else math.nan


def figure(value: Any, digits: int = 2) -> str:
  """Returns a number as text: '21.40', '−3.00', '∞', or '–' for NaN."""
  return formatted(value, f'.{digits}f')


def significant(value: Any) -> str:
  """Returns a number of unknown size as text, to three digits."""
  return formatted(value, '.3g')


def share(value: Any) -> str:
  """Returns a fraction as text: '75%', or '–' for NaN and infinity."""
  value = number(value)
  return formatted(value if math.isfinite(value) else math.nan, '.0%')


def score(column: str, value: Any) -> str:
  """Returns a value of a column of `columns.COLUMNS` as text."""
  return formatted(value, columns.COLUMNS[column].form)


def formatted(value: Any, form: str) -> str:
  """Returns a number in a format, with typographic signs."""
  value = number(value)
  if math.isnan(value):
    return '–'
  if math.isinf(value):
    return '∞' if value > 0 else '−∞'
  return f'{value:{form}}'.replace('-', '−')


def plain(value: Any) -> str:
  """Returns a value of a sweep as text: '0.001', 'resnet18', 'fedavg: ...'."""
  if isinstance(value, float):
    return f'{value:g}'
  if isinstance(value, dict) and 'name' in value:
    rest = [f'{k} {plain(v)}' for k, v in value.items() if k != 'name']
    name = str(value['name'])
    return f'{name}: {", ".join(rest)}' if rest else name
  text = str(value)
  return text if len(text) <= 40 else f'{text[:39]}…'


def plural(count: int, noun: str, nouns: str | None = None) -> str:
  """Returns '1 image', '8 images'."""
  return f'{count} {noun if count == 1 else nouns or noun + "s"}'


def listing(values: Iterable[Any]) -> str:
  """Returns the distinct values, in order: 'resnet18, vit_b'."""
  return ', '.join(dict.fromkeys(str(v) for v in values if v is not None))


def axis_label(key: str) -> str:
  """Returns a sweep's key without its prefix."""
  return key.removeprefix('config.')
