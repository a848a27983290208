"""Tests of giajax.results.rows and columns."""

import json
import math

import pytest

from giajax.metrics import METRICS
from giajax.results import columns
from giajax.results import rows

EMPTY = {int: 0, float: math.nan, str: '', bool: False, list: [], dict: {}}


def row(**changes):
  """Returns a row whose columns are empty but for these."""
  made = {
    n: EMPTY[c.kind] for n, c in columns.COLUMNS.items() if not c.optional
  }
  return made | {'verdict': 'resists', 'setting': 'diagnostic'} | changes


def test_every_metric_has_a_column():
  for name, metric in METRICS.items():
    assert columns.COLUMNS[name].label == metric.title
    assert (f'{name}_claimed' in columns.COLUMNS) == metric.of_images
  assert all(column.meaning for column in columns.COLUMNS.values())


def test_lines_are_json_with_null_for_what_is_no_number():
  made = row(psnr=math.inf, baselines={'a': {'psnr': math.nan}})
  text = rows.lines([rows.checked(made)])
  assert text.endswith('\n') and text.count('\n') == 1
  read = json.loads(text)
  assert read['psnr'] is None and read['baselines'] == {'a': {'psnr': None}}
  assert columns.check(read, 'a row') == read


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'psnr': '3'}, "float or null under 'psnr'; got '3'"),
    ({'restarts': 1.5}, "int under 'restarts'"),
    ({'restarts': True}, "int under 'restarts'"),
    ({'labels_granted': 1}, "bool under 'labels_granted'"),
    ({'pnsr': 3.0}, "known columns only; got 'pnsr'"),
  ],
)
def test_rows_are_checked_when_they_are_written(changes, words):
  with pytest.raises(ValueError, match=f'^Expected row 0 .*{words}'):
    rows.checked(row(**changes))


def test_missing_columns_are_named():
  short = row()
  del short['psnr'], short['verdict']
  with pytest.raises(ValueError, match=r'Expected row 0 .* of psnr, verdict;'):
    rows.checked(short)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    (dict(labels_granted=True, labels_matched=0.19), 'labels granted (19% of'),
    (
      dict(labels_recovered=1.0, labels_matched=0.06),
      'labels recovered 100% (',
    ),
    (dict(labels_recovered=1.0, labels_matched=0.06), '(6% of the images have'),
    ({}, 'no labels claimed'),
    (dict(labels_recovered=1.0, batch_size=1), 'labels recovered 100%, 3 of 4'),
    (dict(psnr=12.345, ssim=-0.5), 'PSNR 12.35 dB, SSIM −0.500'),
    (dict(sweep={'defense.scale': 0.1}), 'defense.scale=0.1, case 0: resists'),
    (
      dict(verdict='untested', degenerate='the update is zero'),
      'case 0: untested, PSNR – dB',
    ),
    (
      dict(verdict='untested', degenerate='the update is zero'),
      '(diagnostic); the update is zero',
    ),
  ],
)
def test_a_line_for_the_terminal(changes, words):
  usual = dict(batch_size=16, finite_restarts=3, restarts=4)
  assert words in rows.summary_line(row(**{**usual, **changes}))


def test_a_summary_is_one_plain_line():
  values = {'a\x1b': 'b\n\udce9', 'model': {'name': '\x9b', 'x': '\r'}}
  line = rows.summary_line(row(sweep=values))
  assert line.startswith(r'a\x1b=b\n\udce9, model=\x9b: x \r, case 0: resists')
