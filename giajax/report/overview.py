"""What a report shows of a run of very many updates: sums, ends, a sample.

Nobody reads a table of ten thousand lines. Beyond `rows.MANY` updates, the page
has distributions and medians over each key of the sweep, and of the updates
themselves those that came back best and worst, and a sample. All of them are in
`results.jsonl` and `results.parquet`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from giajax.metrics import success
from giajax.report import markup
from giajax.results import collection
from giajax.results import rows as result_rows
from giajax.results import wording

_LINES = 10  # updates of each kind
_VALUES = 12  # of a key that are shown


class Group(NamedTuple):
  """The updates at one value of a key, whatever the other keys are."""

  value: Any
  rows: Sequence[Mapping[str, Any]]


def is_large(run: collection.Run) -> bool:
  """Returns whether a run has more updates than anybody reads."""
  return len(run.rows) > result_rows.MANY


def groups(run: collection.Run, key: str) -> list[Group]:
  """Returns the updates at each value of a swept key, in order.

  Numbers are in ascending order, other values in that of the sweep.
  """
  found: dict[str, tuple[Any, list[Mapping[str, Any]]]] = {}
  for row in run.rows:
    value = (row.get('sweep') or {}).get(key)
    found.setdefault(repr(value), (value, []))[1].append(row)
  made = [Group(*pair) for pair in found.values()]
  if all(type(group.value) in (int, float) for group in made):
    made.sort(key=lambda group: group.value)
  return made


def by_value(run: collection.Run) -> markup.Html:
  """Returns a table of each swept key: what its values did, others aside."""
  head = ['', 'value', 'updates', 'PSNR (dB)', 'middle half', 'SSIM', 'leak']
  body = []
  for key in collection.swept(run):
    every = groups(run, key)
    shown = np.linspace(0, len(every) - 1, min(_VALUES, len(every)))
    for i in np.unique(shown.round().astype(int)):
      body.append(_cells(key, every[i]))
  return markup.table(head, body)


def ends(run: collection.Run) -> dict[str, list[Mapping[str, Any]]]:
  """Returns updates to show: the best, a sample in a seeded draw, the worst."""
  order = result_rows.by_gravity(run.rows)
  rng = np.random.default_rng(collection.SAMPLE_SEED)
  drawn = np.sort(rng.choice(len(run.rows), _LINES, replace=False))
  return {
    'What came back best': order[:_LINES],
    'A sample, drawn before any metric was looked at': [
      run.rows[i] for i in drawn
    ],
    'What came back worst': order[-_LINES:],
  }


def _cells(key: str, group: Group) -> list[str]:
  psnr = [wording.number(row.get('psnr')) for row in group.rows]
  finite = [value for value in psnr if np.isfinite(value)]
  low, high = np.percentile(finite, (25, 75)) if finite else (np.nan, np.nan)
  share = success.leaking([str(row['verdict']) for row in group.rows])
  return [
    wording.axis_label(key),
    wording.plain(group.value),
    str(len(group.rows)),
    wording.figure(collection.median(psnr), 1),
    f'{wording.figure(low, 1)} to {wording.figure(high, 1)}',
    wording.figure(collection.median(row.get('ssim') for row in group.rows)),
    wording.share(share),
  ]
