"""Tests of `giajax --config`: mistakes in a config, and a whole audit."""

import subprocess
import sys
import zipfile

import commandline
import numpy as np
import pytest

from giajax import main


@pytest.mark.parametrize(
  'change, words',
  [
    (
      "config.attack = dict(name='dlgg')",
      "known attack (april, .*'dlg'",
    ),
    ("config.model = dict(name='x')", 'known model (alexnet, .*mlp'),
    ("config.dataset = dict(name='x')", 'known dataset (.*photographs'),
    ('config.attack.tv = 1.0', "attack (inverting.*total_variation.* got 'tv'"),
    ("config.labels = 'x'", 'known label rule (.*idlg'),
    ('config.atack = 1', "'*atack'*.*'*attack'*"),
    ('config.cases.cuont = 1', 'cuont.*count'),
    ('config.attack.num_stepz = 1', "did you mean 'num_steps'"),
    ('config.restarts = 0', 'restarts of at least 1; got restarts=0'),
    ("config.restarts = 'two'", 'restarts.*two'),
    ('config.cases.given = (99,); config.cases.rule = "given"', '[0, size=16)'),
    ('config.cases.given = (1,)', "given exactly when rule='given'"),
    ('config.cases.batch_size = 40', 'batch_size of 1 to 16'),
    ('config.threat.grants = ()', 'cover the needs .* without labels'),
    ("config.threat.level = 'A'", 'cover the needs .* without batch_size'),
    ("config.weights.path = 'no.npz'", 'a file of weights'),
    ("config.lpips = 'no.npz'", 'at least 31x31'),
    ("config.dataset.size = 32; config.lpips = 'no.npz'", 'no.npz'),
    ("config.sweep = {'seed': ()}", "sweep['seed']"),
    ("config.sweep = {'sede': (1,)}", "did you mean 'seed'"),
    (
      "config.attack = dict(name='linear_layer'); config.cases.batch_size = 2",
      'batch_size 1 for linear_layer',
    ),
    ("config.dataset = dict(name='folder', path='/no', size=8)", '/no'),
  ],
)
def test_mistakes_in_a_config(capsys, tmp_path, change, words):
  workdir = tmp_path / 'run'
  config = commandline.write(tmp_path, change)
  line = commandline.complaint(
    capsys, f'--config={config}', f'--workdir={workdir}'
  )
  position = 0
  for word in words.split('.*'):
    word = word.replace("'*", '')
    assert word in line[position:], line
    position = line.index(word, position)
  assert not workdir.exists()


def test_weights_of_another_architecture(capsys, tmp_path):
  np.savez(tmp_path / 'w.npz', **{'conv1.weight': np.ones((2, 2), np.float32)})
  config = commandline.write(
    tmp_path, f"config.weights.path = '{tmp_path}/w.npz'"
  )
  arguments = f'--config={config}', f'--workdir={tmp_path}/run'
  line = commandline.complaint(capsys, *arguments)
  assert 'missing: layers.0.' in line
  assert 'surplus: conv1.weight' in line
  data = (tmp_path / 'w.npz').read_bytes()
  (tmp_path / 'w.npz').write_bytes(data[:-30])
  assert 'a whole npz' in commandline.complaint(capsys, *arguments)
  with zipfile.ZipFile(tmp_path / 'w.npz', 'w') as file:
    file.writestr('archive/data.pkl', b'cos\nsystem\n(S"false"\ntR.')
  assert 'an npz of plain arrays' in commandline.complaint(capsys, *arguments)


def test_foreign_workdir(capsys, tmp_path):
  (tmp_path / 'config.json').write_text('{}')
  config = commandline.write(tmp_path)
  line = commandline.complaint(
    capsys, f'--config={config}', f'--workdir={tmp_path}'
  )
  assert 'to be written by giajax' in line


def test_process_ends_with_one_line(tmp_path):
  config = commandline.write(tmp_path, "config.attack = dict(name='dlgg')")
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'giajax.main'),
      *(f'--config={config}', f'--workdir={tmp_path}/run'),
    ],
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == 2
  assert done.stderr.startswith('giajax: Expected a known attack (')
  assert len(done.stderr.splitlines()) == 1
  assert not (tmp_path / 'run').exists()


def test_whole_audit_and_its_report(capsys, tmp_path):
  closed = "config.attack = dict(name='linear_layer')"
  config = commandline.write(tmp_path, closed)
  arguments = ['giajax', f'--config={config}', f'--workdir={tmp_path}/run']
  assert main.main([*arguments, '--config.cases.count=1']) == 0
  out, err = capsys.readouterr()
  assert out.startswith('case 0')
  assert f'report: {tmp_path}/run/report.html' in out
  assert 'compiled program 1 in' in err
  page = (tmp_path / 'run' / 'report.html').read_bytes()
  assert b'Two photographs.' in page
  (tmp_path / 'run' / 'report.html').unlink()
  assert main.main(['giajax', 'report', f'{tmp_path}/run']) == 0
  assert (tmp_path / 'run' / 'report.html').read_bytes() == page
  capsys.readouterr()
  line = commandline.complaint(capsys, *arguments[1:], '--config.restarts=7')
  assert 'restarts=1; got restarts=7' in line
