"""The files of a workdir, read back and checked: all that a report knows."""

from collections.abc import Iterable, Mapping, Sequence
import json
import math
import pathlib
from typing import Any, NamedTuple
import zipfile
import zlib

import numpy as np

SAMPLE_LIMIT = 16
SAMPLE_SEED = 0
_ROW_KEYS = ('row', 'point', 'case', 'psnr', 'ssim', 'verdict', 'setting')
_ARRAYS = ('x', 'y', 'x_hat', 'y_hat', 'x_start', 'psnr', 'ssim')
_RESTARTS = ('scores', 'finite', 'chosen', 'trace', 'trace_step')
_NUMBERS = (int, float, np.number, np.ndarray)
_TORN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError)


class Run(NamedTuple):
  """A finished run, or as much of it as its files hold."""

  meta: Mapping[str, Any]  # config.json
  rows: Sequence[Mapping[str, Any]]  # results.jsonl, ordered by row number
  arrays: Any  # recon.npz, read lazily; close it when done


class Sample(NamedTuple):
  """One image of one row."""

  row: Mapping[str, Any]
  index: int  # within the batch


def read(workdir: pathlib.Path) -> Run:
  """Returns what `config.json`, `results.jsonl` and `recon.npz` hold.

  Raises:
    ValueError: a file is missing, torn, or not in the format of this version.
  """
  meta = _meta(_existing(workdir / 'config.json'))
  rows = _rows(_existing(workdir / 'results.jsonl'))
  path = _existing(workdir / 'recon.npz')
  try:
    arrays = np.load(path, allow_pickle=False)
  except _TORN as error:
    raise _torn_archive(path) from error
  missing = [
    _key(row, name)
    for row in rows
    for name in (*_ARRAYS, *_RESTARTS)
    if _key(row, name) not in arrays.files
  ]
  if missing:
    arrays.close()
    raise ValueError(
      f'Expected {path} to hold every row of results.jsonl; got no array '
      f'{missing[0]!r} ({len(missing)} missing); run the experiment again'
    )
  return Run(meta, rows, arrays)


def advice(workdir: pathlib.Path) -> dict[str, Any] | None:
  """Returns what `advice.json` holds, None where there is none.

  Raises:
    ValueError: it is torn.
  """
  path = workdir / 'advice.json'
  if not path.is_file():
    return None
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(
      f'Expected {path} to be JSON; got a torn file ({error}); remove it and '
      'run giajax advise again'
    ) from error


def array(run: Run, row: Mapping[str, Any], name: str) -> np.ndarray:
  """Returns one array of one row, e.g. `x_hat` [B, H, W, C].

  Raises:
    ValueError: the archive is torn there.
  """
  try:
    return run.arrays[_key(row, name)]
  except _TORN as error:
    raise _torn_archive(_key(row, name)) from error


def has(run: Run, row: Mapping[str, Any], name: str) -> bool:
  """Returns whether an array that need not exist does."""
  return _key(row, name) in run.arrays.files


def number(value: Any) -> float:
  """Returns a float; NaN stands for null and for anything not a number."""
  return float(value) if isinstance(value, _NUMBERS) else math.nan


def median(values: Iterable[Any]) -> float:
  """Returns the median of the numbers among `values`, NaN where none is."""
  known = [v for v in map(number, values) if not math.isnan(v)]
  return float(np.median(known)) if known else math.nan


def baseline(row: Mapping[str, Any], name: str, metric: str) -> float:
  """Returns one baseline's metric, NaN where it was not scored."""
  return number(((row.get('baselines') or {}).get(name) or {}).get(metric))


def scores(
  run: Run, row: Mapping[str, Any], metric: str, baseline: str | None = None
) -> list[float]:
  """Returns a metric of each image of a row, NaN where it is not defined.

  The row's mean alone, where a run did not keep those of its images.

  Args:
    run: the run.
    row: one of its rows.
    metric: such as 'psnr'.
    baseline: the name of one of the row's; None for the attack.
  """
  if baseline is None:
    if has(run, row, metric):
      return array(run, row, metric).astype(float).tolist()
    return [number(row.get(metric))]
  means = (row.get('baselines') or {}).get(baseline) or {}
  if not has(run, row, 'baselines') or metric not in means:
    return [number(means.get(metric))]
  kept = array(run, row, 'baselines')  # [baselines, metrics, B]
  at = [*row['baselines']].index(baseline), [*means].index(metric)
  return kept[at].astype(float).tolist()


def best_baseline(row: Mapping[str, Any], metric: str) -> float:
  """Returns the best of a row's baselines, NaN where there is none."""
  names = row.get('baselines') or {}
  known = [baseline(row, name, metric) for name in names]
  return max((v for v in known if not math.isnan(v)), default=math.nan)


def points(run: Run) -> dict[int, list[Mapping[str, Any]]]:
  """Returns the rows of every point, in the order of the points."""
  groups: dict[int, list[Mapping[str, Any]]] = {}
  for row in sorted(run.rows, key=lambda row: (row['point'], row['case'])):
    groups.setdefault(row['point'], []).append(row)
  return groups


def swept(run: Run) -> list[str]:
  """Returns the sweep's keys that take more than one value."""
  values: dict[str, set[str]] = {}
  for row in run.rows:
    for key, value in (row.get('sweep') or {}).items():
      values.setdefault(key, set()).add(repr(value))
  return [key for key, seen in values.items() if len(seen) > 1]


def sample(
  run: Run, limit: int = SAMPLE_LIMIT, seed: int = SAMPLE_SEED
) -> list[Sample]:
  """Returns at most `limit` images, drawn without a look at any metric.

  The draw is over (case, image), so that every point of a sweep shows the
  same slots as far as its batch has them.

  Args:
    run: the run.
    limit: how many at most, over all points.
    seed: of the draw; fixed, so that nobody picks a flattering one.
  """
  rng = np.random.default_rng(seed)
  groups = points(run)
  if len(groups) > limit:
    kept = rng.choice(sorted(groups), limit, replace=False)
    groups = {point: groups[point] for point in sorted(kept.tolist())}
  each = max(1, limit // max(1, len(groups)))
  sizes = {row['row']: len(array(run, row, 'y')) for row in run.rows}
  slots = sorted(
    {(row['case'], i) for row in run.rows for i in range(sizes[row['row']])}
  )
  order = [slots[i] for i in rng.permutation(len(slots))]
  drawn = []
  for rows in groups.values():
    cases = {row['case']: row for row in rows}
    exist = [s for s in order if s[0] in cases and s[1] < sizes[_id(cases, s)]]
    drawn += [Sample(cases[c], i) for c, i in sorted(exist[:each])]
  return drawn


def _id(cases: Mapping[int, Mapping[str, Any]], slot: tuple[int, int]) -> int:
  return cases[slot[0]]['row']


def _key(row: Mapping[str, Any], name: str) -> str:
  return f'{row["row"]:04d}/{name}'


def _existing(path: pathlib.Path) -> pathlib.Path:
  if not path.is_file():
    raise ValueError(
      f'Expected a finished run with {path.name}; got no file {path}; pass '
      'the workdir of a run, or run the experiment first'
    )
  return path


def _meta(path: pathlib.Path) -> dict[str, Any]:
  try:
    meta = json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(
      f'Expected {path} to be JSON; got a torn file ({error}); run the '
      'experiment again'
    ) from error
  if not isinstance(meta, dict) or not isinstance(meta.get('config'), dict):
    raise ValueError(
      f'Expected {path} to be an object with a "config"; got '
      f'{sorted(meta) if isinstance(meta, dict) else type(meta).__name__}; '
      'run the experiment again with this version'
    )
  return meta


def _rows(path: pathlib.Path) -> list[dict[str, Any]]:
  lines = path.read_text(encoding='utf-8', errors='replace').splitlines()
  rows = [_row(path, i, lines) for i, line in enumerate(lines) if line.strip()]
  if not rows:
    raise ValueError(
      f'Expected at least one result in {path}; got none; run the experiment'
      ' to its end'
    )
  numbers = [row['row'] for row in rows]
  if len(set(numbers)) < len(numbers):
    twice = next(n for n in numbers if numbers.count(n) > 1)
    raise ValueError(
      f'Expected one line a row in {path}; got row={twice} twice; remove the '
      'older line'
    )
  return sorted(rows, key=lambda row: row['row'])


def _row(path: pathlib.Path, index: int, lines: list[str]) -> dict[str, Any]:
  where = f'line {index + 1} of {path}'
  try:
    row = json.loads(lines[index])
  except ValueError as error:
    what = 'a torn last line' if index == len(lines) - 1 else 'a broken line'
    raise ValueError(
      f'Expected {where} to be JSON; got {what} ({lines[index][:40]!r}); '
      'remove that line, or resume the run'
    ) from error
  missing = [k for k in _ROW_KEYS if not isinstance(row, dict) or k not in row]
  if missing:
    raise ValueError(
      f'Expected {where} to have {", ".join(_ROW_KEYS)}; got none of '
      f'{", ".join(missing)}; run the experiment again with this version'
    )
  return row


def _torn_archive(where: Any) -> ValueError:
  return ValueError(
    f'Expected a readable NumPy archive; got a torn recon.npz ({where}); run '
    'the experiment again'
  )
