"""Tests of `giajax init`."""

import commandline

from giajax import main
from giajax.commands import configs
from giajax.commands import flags
from giajax.engine import build


def test_what_is_written_runs(tmp_path, capsys):
  path = tmp_path / 'mine.py'
  assert main.main(['giajax', 'init', str(path)]) == 0
  out = capsys.readouterr().out
  assert f'giajax --config={path} --workdir=' in out
  text = path.read_text()
  assert f'--config={path}' in text and '--config=own_system' not in text
  arguments = flags.read('giajax', '', (flags.CONFIG,), [f'--config={path}'])
  assert build.resolve(configs.load(arguments))['attack']['num_steps'] == 200


def test_nothing_is_overwritten(tmp_path, capsys):
  path = tmp_path / 'mine.py'
  path.write_text('mine')
  assert 'one that exists' in commandline.complaint(capsys, 'init', path)
  assert path.read_text() == 'mine'
  line = commandline.complaint(capsys, 'init', tmp_path / 'mine.txt')
  assert 'another ending' in line
  line = commandline.complaint(capsys, 'init', '/nowhere/mine.py')
  assert 'Expected' in line
