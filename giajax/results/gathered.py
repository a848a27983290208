"""Rows of many workdirs in one table, as far as their runs are finished."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import csv
import json
import math
import pathlib
from typing import Any, NamedTuple

import numpy as np

from giajax import files
from giajax.metrics import success
from giajax.results import columns
from giajax.results import parquet
from giajax.results import records
from giajax.results import wording

WORKDIR = 'workdir'
_SWEEP = 'sweep.'


class Gathered(NamedTuple):
  """What many workdirs hold.

  Attributes:
    rows: flat rows, see `parquet.flat`, each with the name of its 'workdir'.
    torn: the number of last lines that were cut off.
    again: the number of updates that several workdirs have, made of the same
      files by the same versions on the same device: of these, the first counts.
    unfinished: workdirs without results.
  """

  rows: Sequence[Mapping[str, Any]]
  torn: int
  again: int
  unfinished: Sequence[pathlib.Path]


class Point(NamedTuple):
  """The updates of one point of one workdir, summed up."""

  at: Mapping[str, Any]  # what tells it from the other points
  updates: int
  psnr: float  # the median over the updates
  ssim: float  # the same
  leaking: float  # see `success.leaking`
  worst: str  # the gravest verdict


def gather(
  folders: Sequence[pathlib.Path], name: Callable[[pathlib.Path], str] = str
) -> Gathered:
  """Returns the rows of workdirs.

  Args:
    folders: workdirs, or folders with workdirs somewhere in them.
    name: returns what a workdir is called.

  Raises:
    ValueError: a folder without any workdir, or a file that is no such file.
  """
  rows, seen = [], set()
  torn = again = 0
  unfinished = []
  for workdir in workdirs(folders):
    path = workdir / 'results.jsonl'
    if not path.is_file():
      unfinished.append(workdir)
      continue
    meta = records.run(workdir / 'config.json')
    decides = ('inputs', 'precision', 'versions', 'device')
    same = json.dumps([meta.get(name) for name in decides], sort_keys=True)
    found, cut = _rows(path)
    torn += cut
    for row in found:
      key = row['config_hash'], row['case'], same
      again += key in seen
      if key not in seen:
        seen.add(key)
        rows.append({WORKDIR: name(workdir), **parquet.flat(row)})
  return Gathered(rows, torn, again, unfinished)


def write(path: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
  """Writes flat rows to a .parquet file, or to a .csv file.

  Raises:
    OSError: it cannot be written.
  """
  if path.suffix == '.parquet':
    parquet.write(path, rows)
    return
  form = dict(encoding='utf-8', errors='backslashreplace', newline='')
  with files.written(path) as made, open(made, 'w', **form) as file:
    writer = csv.DictWriter(file, list(parquet.kinds(rows)))
    writer.writeheader()
    writer.writerows(rows)


def points(rows: Iterable[Mapping[str, Any]]) -> list[Point]:
  """Returns a sum for each point of each workdir, in the order of the rows.

  Args:
    rows: flat rows with the names of their workdirs.
  """
  groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
  for row in rows:
    groups.setdefault((row[WORKDIR], row['point']), []).append(row)
  keys = distinguishing([group[0] for group in groups.values()])
  return [_point(group, keys) for group in groups.values()]


def distinguishing(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """Returns the columns of settings that differ between flat rows."""
  names = dict.fromkeys(name for row in rows for name in row)
  settings = [
    name
    for name in names
    if name in (WORKDIR, 'attack', 'model', 'dataset', 'batch_size')
    or name.startswith(_SWEEP)
  ]
  return [n for n in settings if len({repr(row.get(n)) for row in rows}) > 1]


def _point(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Point:
  psnr, ssim = (
    [v for v in (wording.number(r.get(n)) for r in rows) if math.isfinite(v)]
    for n in ('psnr', 'ssim')
  )
  verdicts = [str(row['verdict']) for row in rows]
  return Point(
    at={key.removeprefix(_SWEEP): rows[0].get(key) for key in keys},
    updates=len(rows),
    psnr=float(np.median(psnr)) if psnr else math.nan,
    ssim=float(np.median(ssim)) if ssim else math.nan,
    leaking=success.leaking(verdicts),
    worst=min(verdicts, key=success.gravity),
  )


def workdirs(folders: Sequence[pathlib.Path]) -> Iterator[pathlib.Path]:
  """Yields each workdir in some folders, or that they are; none of them twice.

  Args:
    folders: the folders.

  Raises:
    ValueError: a folder without any workdir.
  """
  seen = set()
  for folder in folders:
    every = sorted(folder.rglob('config.json'))
    found = [path.parent for path in every if _is_of_a_run(path)]
    if not found:
      raise ValueError(
        f'Expected a workdir, or a folder of workdirs; got {folder}, in which '
        'no config.json is that of a run; pass the folder of a run'
      )
    for workdir in found:
      if workdir.resolve() not in seen:
        seen.add(workdir.resolve())
        yield workdir


def _is_of_a_run(path: pathlib.Path) -> bool:
  """Returns whether a `config.json` is one of giajax; others use the name."""
  try:
    meta = records.run(path)
  except ValueError:
    return False
  return 'hash' in meta


def _rows(path: pathlib.Path) -> tuple[list[dict[str, Any]], bool]:
  """Returns the rows of a file, and whether its last line was cut off."""
  lines = files.read_text(path, 'replace').splitlines()
  rows = []
  for i, line in enumerate(lines):
    where = f'line {i + 1} of {path}'
    try:
      row = files.parsed(line, finite=False)
    except ValueError as error:
      if i == len(lines) - 1:
        return rows, True
      raise ValueError(
        f'Expected {where} to be JSON; got {line[:40]!r} ({error}); remove '
        'that line'
      ) from error
    rows.append(columns.check(row, where))
  return rows, False
