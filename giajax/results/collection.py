"""The files of a workdir, read back and checked: all that a report needs."""

from collections.abc import Iterable, Mapping, Sequence
import contextlib
import functools
import math
import pathlib
from typing import Any, NamedTuple

import numpy as np

from giajax import archives
from giajax import files
from giajax import same
from giajax import trees
from giajax.metrics import METRICS
from giajax.metrics import success
from giajax.results import columns
from giajax.results import records
from giajax.results import rows as row_format
from giajax.results import stacks
from giajax.results import wording

SAMPLE_LIMIT = 16
SAMPLE_SEED = 0
_AGAIN = 'run the experiment again'


class Run(NamedTuple):
  """A finished run, or the part of it that its files hold."""

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
  meta = records.run(_existing(workdir / 'config.json'))
  rows = _rows(_existing(workdir / 'results.jsonl'))
  path = _existing(workdir / 'recon.npz')
  with contextlib.ExitStack() as stack:
    members = stack.enter_context(archives.Arrays(path, advice=_AGAIN))
    arrays = stacks.Stacks(members, str(path), _AGAIN)
    heads = {key: arrays.head(key) for key in arrays}
    check_arrays(rows, heads, str(path))
    for row in rows:
      _check_chosen(arrays, row)
    stack.pop_all()
  return Run(meta, rows, arrays)


def check_arrays(
  rows: Sequence[Mapping[str, Any]], arrays: Mapping[str, Any], where: str
) -> None:
  """Checks that rows have all of their arrays, in shapes that agree.

  Args:
    rows: the rows.
    arrays: what has a shape and a dtype, by the names of the arrays.
    where: what the message calls them.

  Raises:
    ValueError: an array is missing, or has another shape or type.
  """
  known = columns.ARRAYS | columns.OPTIONAL
  by_row: dict[str, dict[str, Any]] = {}
  for key in arrays:
    number, _, name = key.partition('/')
    if name.partition('.')[0] in known:
      by_row.setdefault(number, {})[name] = key
  named = [(row, by_row.get(_key(row, '')[:-1], {})) for row in rows]
  missing = [
    _key(row, name)
    for row, own in named
    for name, array in columns.ARRAYS.items()
    if name not in {n.partition('.')[0] for n in own}
    and (columns.is_scored(row) or not array.needs_truth)
  ]
  if missing:
    raise ValueError(
      f'Expected {where} to hold every row of results.jsonl; got no array '
      f'{missing[0]!r} ({len(missing)} missing); {_AGAIN}'
    )
  for row, own in named:
    found = {name: arrays[key] for name, key in own.items()}
    columns.check_arrays(row, found, where)


def advice(workdir: pathlib.Path) -> dict[str, Any] | None:
  """Returns what `advice.json` holds, None if there is none.

  Raises:
    ValueError: it is torn, or holds something else.
  """
  path = workdir / 'advice.json'
  if not path.is_file():
    return None
  return records.advice(path)


def array(run: Run, row: Mapping[str, Any], name: str) -> np.ndarray:
  """Returns one array of one row, e.g. `x_hat` [B, H, W, C].

  Raises:
    ValueError: the archive is torn there.
  """
  return run.arrays[_key(row, name)]


def count(run: Run, row: Mapping[str, Any]) -> int:
  """Returns the number of images that a row has."""
  return run.arrays.head(_key(row, 'x_hat')).shape[0]


def has(run: Run, row: Mapping[str, Any], name: str) -> bool:
  """Returns whether an optional array exists."""
  return _key(row, name) in run.arrays


def targets(run: Run, row: Mapping[str, Any], name: str) -> Any:
  """Returns the tree of targets 'y' or 'y_hat' of one row, of [B, ...].

  Raises:
    ValueError: the archive is torn there.
  """
  key = _key(row, name)
  own = [_key(row, n) for n in run.arrays.names(row['row'])]
  names = [n for n in own if n == key or n.startswith(f'{key}.')]
  return trees.under(key, {n: run.arrays[n] for n in names})


def median(values: Iterable[Any]) -> float:
  """Returns the median of the numbers among `values`, NaN if there are none."""
  numbers = [v for v in map(wording.number, values) if not math.isnan(v)]
  return float(np.median(numbers)) if numbers else math.nan


def baseline(row: Mapping[str, Any], name: str, metric: str) -> float:
  """Returns one baseline's metric, NaN where it was not scored."""
  return wording.number(
    ((row.get('baselines') or {}).get(name) or {}).get(metric)
  )


def scores(
  run: Run, row: Mapping[str, Any], metric: str, baseline: str | None = None
) -> list[float]:
  """Returns a metric of each image of a row, NaN where it is not defined.

  Where a run did not keep the values of its images, this is the row's mean.

  Args:
    run: the run.
    row: one of its rows.
    metric: the name of a metric, such as 'psnr'.
    baseline: the name of one of the row's baselines; None for the attack.
  """
  if baseline is None:
    if has(run, row, metric):
      return array(run, row, metric).astype(float).tolist()
    return [wording.number(row.get(metric))]
  means = (row.get('baselines') or {}).get(baseline) or {}
  if not has(run, row, 'baselines') or metric not in means:
    return [wording.number(means.get(metric))]
  values = array(run, row, 'baselines')  # [baselines, metrics, B]
  at = [*row['baselines']].index(baseline), [*means].index(metric)
  return values[at].astype(float).tolist()


def scores_of(
  run: Run, row: Mapping[str, Any], baseline: str | None = None
) -> dict[str, list[float]]:
  """Returns every metric of guesses, as `scores` does one."""
  names = [name for name, metric in METRICS.items() if metric.about == 'guess']
  means = (row.get('baselines') or {}).get(baseline) or {}
  if baseline is None or not means or not has(run, row, 'baselines'):
    return {name: scores(run, row, name, baseline) for name in names}
  at = [*row['baselines']].index(baseline)
  values = array(run, row, 'baselines')[at].astype(float).tolist()
  known = dict(zip(means, values))
  return {name: known.get(name, [math.nan]) for name in names}


def best_baseline(row: Mapping[str, Any], metric: str) -> float:
  """Returns the best of a row's baselines, NaN if there is none."""
  names = row.get('baselines') or {}
  values = [baseline(row, name, metric) for name in names]
  best = max if METRICS[metric].higher_is_better else min
  return best((v for v in values if not math.isnan(v)), default=math.nan)


def recognised(run: Run, row: Mapping[str, Any]) -> np.ndarray:
  """Returns [B] bool: the images of a row that came back recognisably."""
  floor = best_baseline(row, 'psnr')
  psnr, ssim = (array(run, row, name) for name in ('psnr', 'ssim'))
  return success.recognised(psnr, ssim, floor)


def near(run: Run, row: Mapping[str, Any]) -> np.ndarray:
  """Returns [B] bool: the images that narrowly missed this."""
  floor = best_baseline(row, 'psnr')
  psnr, ssim = (array(run, row, name) for name in ('psnr', 'ssim'))
  return success.near(psnr, ssim, floor)


def worst(run: Run) -> Mapping[str, Any]:
  """Returns the row of the gravest verdict; of these, that of highest PSNR."""
  return row_format.by_gravity(run.rows)[0]


def points(run: Run) -> dict[int, list[Mapping[str, Any]]]:
  """Returns the rows of every point, in the order of the points."""
  groups: dict[int, list[Mapping[str, Any]]] = {}
  for row in sorted(run.rows, key=lambda row: (row['point'], row['case'])):
    groups.setdefault(row['point'], []).append(row)
  return groups


def swept(run: Run) -> list[str]:
  """Returns the sweep's keys that take more than one value."""
  return _swept(same.Same(run.rows))


def sample(
  run: Run, limit: int = SAMPLE_LIMIT, seed: int = SAMPLE_SEED
) -> list[Sample]:
  """Returns at most `limit` images, drawn without looking at any metric.

  The draw is over (case, image), so that every point of a sweep shows the same
  slots, if its batch has them.

  Args:
    run: the run.
    limit: how many at most, over all points.
    seed: the seed of the draw; fixed, so that nobody picks a flattering one.
  """
  rng = np.random.default_rng(seed)
  groups = points(run)
  if len(groups) > limit:
    draw = rng.choice(sorted(groups), limit, replace=False)
    groups = {point: groups[point] for point in sorted(draw.tolist())}
  each = max(1, limit // max(1, len(groups)))
  chosen = [row for rows in groups.values() for row in rows]
  sizes = {row['row']: count(run, row) for row in chosen}
  slots = sorted(
    {(row['case'], i) for row in chosen for i in range(sizes[row['row']])}
  )
  order = [slots[i] for i in rng.permutation(len(slots))]
  samples = []
  for rows in groups.values():
    cases = {row['case']: row for row in rows}
    exist = [s for s in order if s[0] in cases and s[1] < sizes[_id(cases, s)]]
    samples += [Sample(cases[c], i) for c, i in sorted(exist[:each])]
  return samples


@functools.lru_cache(maxsize=1)  # it keeps the rows alive
def _swept(rows: same.Same) -> list[str]:
  values: dict[str, set[str]] = {}
  for row in rows.value:
    for key, value in (row.get('sweep') or {}).items():
      values.setdefault(key, set()).add(repr(value))
  return [key for key, texts in values.items() if len(texts) > 1]


def _id(cases: Mapping[int, Mapping[str, Any]], slot: tuple[int, int]) -> int:
  return cases[slot[0]]['row']


def _key(row: Mapping[str, Any], name: str) -> str:
  return row_format.key(row['row'], name)


def _check_chosen(arrays: stacks.Stacks, row: Mapping[str, Any]) -> None:
  count = len(arrays[_key(row, 'finite')])
  chosen = int(arrays[_key(row, 'chosen')])
  if not 0 <= chosen < count:
    raise ValueError(
      f'Expected row {row["row"]} to choose one of {count} restarts; got '
      f'{chosen}; {_AGAIN}'
    )


def _existing(path: pathlib.Path) -> pathlib.Path:
  if not path.is_file():
    raise ValueError(
      f'Expected a finished run with {path.name}; got no file {path}; pass '
      'the workdir of a run, or run the experiment first'
    )
  return path


def _rows(path: pathlib.Path) -> list[dict[str, Any]]:
  lines = files.read_text(path, 'replace').splitlines()
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
      f'Expected one line per row in {path}; got row={twice} twice; remove the '
      'older line'
    )
  return sorted(rows, key=lambda row: row['row'])


def _row(path: pathlib.Path, index: int, lines: list[str]) -> dict[str, Any]:
  where = f'line {index + 1} of {path}'
  try:
    row = files.parsed(lines[index], finite=False)
  except ValueError as error:
    what = 'a torn last line' if index == len(lines) - 1 else 'a broken line'
    raise ValueError(
      f'Expected {where} to be JSON; got {what} ({error}: '
      f'{lines[index][:40]!r}); remove that line, or resume the run'
    ) from error
  return columns.check(row, where)
