"""Tests of giajax.results.gathered."""

import csv
import json
import shutil

import pytest
import tiny

from giajax.engine import run
from giajax.results import gathered


def _config(**changes):
  return tiny.config(
    attack={'name': 'linear_layer'}, restarts=1, noise_controls=0, **changes
  )


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """Returns a folder with the workdirs of two runs and an unfinished one."""
  folder = tmp_path_factory.mktemp('runs')
  run.audit(_config(sweep={'seed': (0, 1)}), folder / 'seeds')
  wide = dict(name='mlp', widths=(16,))
  run.audit(_config(model=wide), folder / 'deep' / 'wide')
  (folder / 'begun').mkdir()
  shutil.copy(folder / 'seeds' / 'config.json', folder / 'begun')
  return folder


def test_rows_of_workdirs_are_one_table(runs):
  found = gathered.gather([runs])
  assert len(found.rows) == 2 * 2 + 2
  assert found.torn == found.again == 0
  assert [path.name for path in found.unfinished] == ['begun']
  assert {row['workdir'] for row in found.rows} == {
    str(runs / 'seeds'),
    str(runs / 'deep' / 'wide'),
  }
  points = gathered.points(found.rows)
  assert [point.updates for point in points] == [2, 2, 2]
  assert {point.at['seed'] for point in points} == {0, 1, None}
  assert all('attack' not in point.at for point in points)  # all have the same
  one = next(point for point in points if point.at['seed'] == 0)
  assert one.worst == 'leaks' and one.leaking == 1 and one.psnr > 40


def test_what_is_there_twice_counts_once(runs, tmp_path):
  for name in ('first', 'second'):
    shutil.copytree(runs / 'seeds', tmp_path / name)
  folders = [tmp_path / 'second', tmp_path, tmp_path / 'first']
  found = gathered.gather(folders)
  assert (len(found.rows), found.again) == (4, 4)
  assert {row['workdir'] for row in found.rows} == {str(tmp_path / 'second')}
  # The same config with other files is another run.
  path = tmp_path / 'first' / 'config.json'
  meta = json.loads(path.read_text())
  path.write_text(json.dumps({**meta, 'inputs': {'weights.npz': 'abc'}}))
  assert gathered.gather([tmp_path]).again == 0


def test_a_torn_last_line_is_left_out(runs, tmp_path):
  shutil.copytree(runs / 'seeds', tmp_path / 'run')
  path = tmp_path / 'run' / 'results.jsonl'
  whole = path.read_text()
  path.write_text(whole[:-40])
  found = gathered.gather([tmp_path])
  assert (len(found.rows), found.torn) == (3, 1)
  path.write_text(whole[40:])
  with pytest.raises(ValueError, match=r'^Expected line 1 of .*remove that'):
    gathered.gather([tmp_path])


def test_a_folder_without_runs_is_named(tmp_path):
  with pytest.raises(ValueError, match=r'there is no config\.json'):
    gathered.gather([tmp_path])


def test_rows_are_written_as_comma_separated_values(runs, tmp_path):
  found = gathered.gather([runs / 'seeds'])
  gathered.write(tmp_path / 'a.csv', found.rows)
  with open(tmp_path / 'a.csv', newline='') as file:
    read = [*csv.DictReader(file)]
  assert [float(row['psnr']) for row in read] == [
    row['psnr'] for row in found.rows
  ]
  assert [row['sweep.seed'] for row in read] == ['0', '0', '1', '1']
