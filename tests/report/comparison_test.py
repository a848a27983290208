"""Tests of giajax.report.comparison."""

import pathlib

from giajax.report import comparison
from giajax.results import gathered


def _found(count):
  rows = [
    {
      'workdir': 'runs/<b>',
      'point': i,
      'sweep.seed': i,
      'psnr': float(i),
      'ssim': 0.5,
      'verdict': 'leaks' if i % 2 else 'resists',
    }
    for i in range(count)
  ]
  return gathered.Gathered(rows, 1, 2, [pathlib.Path('runs/begun')])


def test_lines_say_what_was_left_out():
  found = _found(60)
  lines = comparison.lines(found, gathered.points(found.rows))
  assert lines[0].split() == [
    *('seed', 'updates', 'PSNR', '(dB)', 'SSIM', 'leak', 'gravest', 'verdict'),
  ]
  assert lines[2].split() == ['1', '1', '1.0', '0.50', '100%', 'leaks']
  assert lines[51:] == [
    'and 10 more points; --out=FILE has all',
    '60 updates in all',
    '2 more were in several workdirs and count once',
    '1 torn last line left out',
    'not finished: runs/begun; see giajax status',
  ]


def test_a_page_lists_the_highest_first_and_escapes_names():
  found = _found(3)
  found.rows[0]['workdir'] = 'runs/<i>'
  page = comparison.page(found, gathered.points(found.rows))
  assert '<td>runs/&lt;b&gt;</td>' in page and '<i>' not in page
  assert page.index('>2.0<') < page.index('>1.0<') < page.index('>0.0<')
  many = _found(1200)
  page = comparison.page(many, gathered.points(many.rows))
  assert 'The 1000 of highest PSNR are listed.' in page
  assert page.count('<tr>') == 1001


def test_no_results_are_no_points():
  found = gathered.Gathered([], 0, 0, [])
  assert comparison.lines(found, []) == ['0 updates in all']
  assert '0 updates at 0 points' in comparison.page(found, [])
