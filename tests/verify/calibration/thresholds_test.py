"""Tests of the table of scores of honest models."""

import json

from giajax.verify.calibration import thresholds


def _cells(line):
  return [cell.strip() for cell in line.strip('|').split('|')]


def test_thresholds_of_rows_by_hand(tmp_path, capsys):
  limit = thresholds.threshold('scale')
  rows = [
    {'name': 'a', 'kind': kind, 'model': i, 'scores': {'scale': score}}
    for kind, score in (('fresh', 0.0), ('trained', limit + 1))
    for i in range(4)
  ]
  path = tmp_path / 'rows.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  assert thresholds.main(['thresholds', f'--rows={path}']) == 0
  out = capsys.readouterr().out
  (line,) = [x for x in out.splitlines() if x.startswith('| scale')]
  assert _cells(line)[-4:] == [
    f'{limit + 1:.3g}',
    f'{limit:.3g}',
    '0.0% of 4',
    '100.0% of 4',
  ]
  assert 'fresh: 0.0% of 4 check-ups of 4 models flagged by any' in out
