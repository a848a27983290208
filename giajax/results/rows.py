"""Rows of `results.jsonl`: as lines of the file, and as sentences."""

import collections
from collections.abc import Mapping, Sequence
import json
import math
from typing import Any

import numpy as np

from giajax import printable
from giajax.metrics import success
from giajax.results import columns
from giajax.results import wording

Row = Mapping[str, Any]
MANY = 200  # rows, beyond which nobody reads a line of each


def checked(row: Row) -> dict[str, Any]:
  """Returns a row as it is written: null for NaN and infinities.

  Raises:
    ValueError: it does not fit `columns.COLUMNS`.
  """
  return columns.check(_jsonable(row), f'row {row.get("row")}')


def lines(rows: Sequence[Row]) -> str:
  """Returns rows as JSON, one per line."""
  return ''.join(json.dumps(row, allow_nan=False) + '\n' for row in rows)


def key(row: int, name: str) -> str:
  """Returns the name of an array of a row in `recon.npz`: '0007/x_hat'."""
  return f'{row:04d}/{name}'


def summary(rows: Sequence[Row]) -> list[str]:
  """Returns the outcome of a run for the terminal: a line for each update.

  Of very many, it is a line for each verdict, and that of the update of highest
  PSNR among the gravest.
  """
  if len(rows) <= MANY:
    return [*map(summary_line, rows)]
  counts = collections.Counter(str(row['verdict']) for row in rows)
  words = [word for word in success.WORDS if word in counts]
  worst = by_gravity(rows)[0]
  return [
    *(f'{word}: {counts[word]} of {len(rows)} updates' for word in words),
    f'the worst of them: row {worst["row"]}, {summary_line(worst)}',
  ]


def by_gravity(rows: Sequence[Row]) -> list[Row]:
  """Returns rows by the gravity of their verdicts, and then by PSNR."""
  return sorted(
    rows,
    key=lambda row: (
      success.gravity(row['verdict']),
      -np.nan_to_num(wording.number(row.get('psnr')), nan=-np.inf),
    ),
  )


def summary_line(row: Row) -> str:
  """Returns the outcome of an update, in one line for the terminal."""
  sweep = ', '.join(f'{k}={wording.plain(v)}' for k, v in row['sweep'].items())
  case = f'case {row["case"]}'
  where = f'{sweep}, {case}' if sweep else case
  if not columns.is_scored(row):
    return printable.line(f'{where}: {row["verdict"]}. {row["reason"]}')
  return printable.line(
    f'{where}: {row["verdict"]}, PSNR '
    f'{wording.score("psnr", row.get("psnr"))} dB{_structure(row)}, '
    f'{labels(row)}, '
    f'{row["finite_restarts"]} of {row["restarts"]} restarts finite '
    f'({row["setting"]})' + _why(row)
  )


def labels(row: Row) -> str:
  """Returns the outcome for the labels of an update, in words."""
  recovered = wording.number(row.get('labels_recovered'))
  if row.get('labels_granted'):
    said = 'labels granted'
  elif math.isnan(recovered):
    return 'no labels claimed'
  else:
    said = f'labels recovered {wording.share(recovered)}'
  if row['batch_size'] == 1:
    return said
  matched = wording.score('labels_matched', row.get('labels_matched'))
  return f'{said} ({matched} of the images have their own)'


def _structure(row: Row) -> str:
  """Returns the SSIM, which rows of a table have none of."""
  ssim = row.get('ssim')
  if ssim is None or math.isnan(ssim):
    return ''
  return f', SSIM {wording.score("ssim", ssim)}'


def _why(row: Row) -> str:
  untested = row['verdict'] == 'untested' and row.get('degenerate')
  return f'; {untested}' if untested else ''


def _jsonable(value: Any) -> Any:
  """NaN and infinities as None, which JSON has."""
  if isinstance(value, Mapping):
    return {k: _jsonable(v) for k, v in value.items()}
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
