"""Tests of giajax.report.overview, and of reports of very many updates."""

import json

import numpy as np
import pytest
import tiny

from giajax.engine import run
from giajax.report import overview
from giajax.report import report
from giajax.results import collection
from giajax.results import rows as result_rows

_SEEDS, _CASES = 3, 70


@pytest.fixture(scope='module')
def many(tmp_path_factory):
  """Returns the workdir of a run of more updates than anybody reads."""
  folder = tmp_path_factory.mktemp('many') / 'run'
  config = tiny.config(
    attack={'name': 'linear_layer'},
    restarts=1,
    noise_controls=0,
    cases__count=_CASES,
    sweep={'seed': tuple(range(_SEEDS))},
  )
  run.audit(config, folder, finish=report.write)
  return folder


def test_a_page_of_many_updates_is_short(many):
  page = (many / 'report.html').read_text(encoding='utf-8')
  assert 'Every case' not in page
  for title in ('What came back best', 'A sample, drawn', 'back worst'):
    assert title in page
  assert page.count('<tr') < 100
  assert len(page) < 500_000
  assert 'PSNR over seed' in page
  told = json.loads((many / 'summary.json').read_text())
  assert told['counts'] == {'leaks': _SEEDS * _CASES}
  assert len(told['rows']) == result_rows.MANY


def test_medians_by_value(many):
  found = collection.read(many)
  with found.arrays:
    groups = overview.groups(found, 'seed')
    assert [group.value for group in groups] == [0, 1, 2]
    assert {len(group.rows) for group in groups} == {_CASES}
    html = overview.by_value(found)
    middle = np.median([row['psnr'] for row in groups[1].rows])
    assert html.count('<tr>') == 1 + _SEEDS
    assert f'<td>{middle:.1f}</td>' in html
    ends = [*overview.ends(found).values()]
  assert ends[0][0]['psnr'] == max(row['psnr'] for row in found.rows)
  assert ends[2][-1]['psnr'] == min(row['psnr'] for row in found.rows)
  assert len({row['row'] for row in ends[1]}) == 10


def test_the_terminal_gets_a_line_for_each_verdict(many):
  found = collection.read(many)
  found.arrays.close()
  lines = result_rows.summary(found.rows)
  assert lines[0] == 'leaks: 210 of 210 updates'
  assert lines[1].startswith('the worst of them: row ')
  assert len(result_rows.summary(found.rows[:9])) == 9
