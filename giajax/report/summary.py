"""The outcome of a run for other programs: `summary.json`.

schema        1; a key is only ever added
verdict       the worst word of `metrics.success.WORDS` among the rows
reason        what it rests on, in a sentence
worst         the row that it comes from: row, case, sweep, attack, verdict,
              and of its worst image: image, psnr, ssim
rows          the same of every row, with score, labels_recovered and setting;
              of the gravest 200, if there are more
counts        the number of rows of each verdict
psnr, ssim    of the worst row: median, low, high (95 %, null for few images)
checks        what was found about a received update before the attack
hash, inputs, versions, device, date
"""

import collections
from collections.abc import Mapping, Sequence
import json
import math
from typing import Any

import numpy as np

from giajax import registry
from giajax.metrics import confidence
from giajax.metrics import success
from giajax.report import overview
from giajax.results import collection
from giajax.results import columns
from giajax.results import rows as result_rows

_SCHEMA = 1
_THRESHOLDS = {'leaks': None, 'partial': None}
_OF_ROW = ('row', 'case', 'sweep', 'attack', 'verdict', 'setting', 'score')


def text(run: collection.Run, redacted: bool = False) -> str:
  """Returns `summary.json` of a run.

  Args:
    run: the run.
    redacted: whether its page leaves the originals out.
  """
  found = {**summary(run), 'redacted': redacted}
  return json.dumps(found, indent=2, allow_nan=False) + '\n'


def summary(run: collection.Run) -> dict[str, Any]:
  """Returns the outcome of a run as JSON has it."""
  worst = collection.worst(run)
  source = run.meta.get('source') or {}
  facts = {
    key: run.meta.get(key)
    for key in ('hash', 'inputs', 'versions', 'device', 'date')
  }
  return {
    'schema': _SCHEMA,
    'verdict': worst['verdict'],
    'reason': worst['reason'],
    'worst': _row(run, worst),
    'rows': [_row(run, row) for row in _shown(run)],
    'counts': collections.Counter(row['verdict'] for row in run.rows),
    **{metric: _interval(run, worst, metric) for metric in ('psnr', 'ssim')},
    'checks': [*source.get('checks', ())],
    **facts,
  }


def check_threshold(word: str, config: Mapping[str, Any]) -> None:
  """Raises ValueError for a --fail_on that cannot be judged.

  Args:
    word: '' for none, or a verdict.
    config: the config, whose updates may be of unknown images.
  """
  if not word:
    return
  registry.lookup(_THRESHOLDS, word, 'fail_on')
  source = config.get('source') or {}
  if source.get('name') == 'captured' and not source.get('truth'):
    raise ValueError(
      f'Expected --truth with --fail_on; got --fail_on={word} for images that '
      'nobody knows, which cannot be scored; leave one out'
    )


def exit_code(rows: Sequence[Mapping[str, Any]], word: str) -> int:
  """Returns 1 if a row is as bad as a verdict or worse, and 0 otherwise.

  A row that tested nothing is no sign that nothing leaks, and counts as bad.
  """
  if not word:
    return 0
  limit = success.gravity(word)
  return int(
    any(
      row['verdict'] == 'untested' or success.gravity(row['verdict']) <= limit
      for row in rows
    )
  )


def _shown(run: collection.Run) -> Sequence[Mapping[str, Any]]:
  """Returns the rows that are told of, in their order."""
  if not overview.is_large(run):
    return run.rows
  worst = result_rows.by_gravity(run.rows)[: result_rows.MANY]
  return sorted(worst, key=lambda row: row['row'])


def _row(run: collection.Run, row: Mapping[str, Any]) -> dict[str, Any]:
  own = {key: row[key] for key in _OF_ROW}
  if not columns.is_scored(row):
    return own
  psnr, ssim = (
    np.asarray(collection.scores(run, row, name)) for name in ('psnr', 'ssim')
  )
  image = int(np.argmax(np.nan_to_num(psnr, nan=-np.inf)))
  return {
    **own,
    'labels_recovered': _number(row.get('labels_recovered')),
    'image': image,
    'psnr': _number(psnr[image]),
    'ssim': _number(ssim[image]),
  }


def _interval(run, row, metric) -> dict[str, float | None] | None:
  if not columns.is_scored(row):
    return None
  values = collection.scores(run, row, metric)
  ends = confidence.interval(values)
  return {
    'median': _number(collection.median(values)),
    'low': _number(ends.low),
    'high': _number(ends.high),
  }


def _number(value: Any) -> float | None:
  """Returns a finite number, None for what JSON does not have."""
  if value is None or not math.isfinite(value):
    return None
  return float(value)
