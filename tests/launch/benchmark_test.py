"""Tests of the benchmark: what it prints, on the smallest workload."""

import json
import math
import pathlib
import subprocess
import sys

import pytest

from launch import benchmark
from launch import suites
from launch import timing
from launch import workload

_ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def run(capsys, monkeypatch):
  """Returns `(*flags) -> (stdout, stderr)` of the benchmark in this process."""
  monkeypatch.chdir(_ROOT)  # where the workloads' processes find `launch`

  def measure(*flags):
    benchmark.main(['', '--tries=1', *flags])
    return capsys.readouterr()

  return measure


def test_one_object_a_workload_and_a_failed_one_is_named():
  flags = ('--restarts=1', '--steps=2', '--rounds=1', '--json')
  done = subprocess.run(
    [sys.executable, '-m', 'launch.benchmark', '--tries=1']
    + ['--only=nosuch:1,lenet:1', *flags],
    cwd=_ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 1
  first, last = done.stderr.strip().splitlines()
  assert first.startswith('nosuch:1: exit code 2: ')
  assert last == 'launch: 1 of 2 workloads failed: nosuch:1'
  (line,) = done.stdout.splitlines()
  found = json.loads(line)
  assert found['network'] == 'lenet'
  assert found['batch'] == 1
  for key in (
    'ms_per_step',
    'cpu_ms_per_step',
    'compile_seconds',
    'cached_seconds',
  ):
    assert found[key] > 0
  for key in ('peer_ms_per_step', 'peer_cpu_ms_per_step', 'ratio'):
    assert found[key] is None


def test_out_is_gone_on_with(tmp_path, run):
  flags = ('--restarts=1', '--steps=1', '--rounds=1', f'--out={tmp_path}/rows')
  first = run('--only=mlp:1', *flags)
  second = run('--only=mlp:1,nosuch:1', *flags)
  *table, row, space, note = first.out.splitlines()
  assert row.startswith('| mlp:1 ')
  assert {line.count('|') for line in (*table, row)} == {13}
  # One step is too short for its other load to be known.
  assert ' – * |' in row and space == '' and note == timing.NOTE
  assert second.out == first.out, 'measured again'
  assert (tmp_path / 'rows').read_text().count('\n') == 1
  other = run('--only=nosuch:1', *flags, '--steps=2')
  assert 'nosuch:1: exit code 2' in other.err


def _measured(monkeypatch, loads, *flags):
  """Runs the benchmark on processes with these other loads, in turn."""
  rest, commands = list(loads), []

  def spawn(command):
    commands.append(command)
    columns = suites.SUITES['main'].columns
    figures = dict.fromkeys((column.key for column in columns), 1.0)
    return {
      **figures,
      'cpu_ms_per_step': 10.0 * len(commands),
      'lowerings': {},
      'other_load': rest.pop(0),
    }

  monkeypatch.setattr(benchmark, '_spawn', spawn)
  assert benchmark.main(['', '--rounds=1', *flags, '--only=lenet:1']) == 0
  assert len(commands) == len(loads)


@pytest.mark.parametrize(
  'loads, cell',
  [
    ([0.01], '1%'),
    ([0.4, 0.01], '1%'),  # tried again
    ([0.4, 0.2, 0.3], '20% *'),  # no more than three times
    ([None], '– *'),
  ],
)
def test_a_disturbed_repetition_is_tried_again_and_marked(
  monkeypatch, capsys, loads, cell
):
  _measured(monkeypatch, loads)
  out = capsys.readouterr().out
  titles, _, row, *rest = out.splitlines()
  column = titles.split('|').index(' other load ')
  assert row.split('|')[column].strip() == cell
  assert rest == (['', timing.NOTE] if '*' in cell else [])
  _measured(monkeypatch, loads, '--json')
  (line,) = capsys.readouterr().out.splitlines()
  result = json.loads(line)
  assert result['other_load'] == (None if None in loads else min(loads))
  # The figures are those of the try with the least load.
  best = loads.index(result['other_load'])
  assert result['cpu_ms_per_step'] == 10 * (best + 1)


def test_a_row_has_the_larger_load_of_the_two_sides(monkeypatch, capsys):
  flags = (f'--peer={sys.executable}', '--tries=2', '--json')
  _measured(monkeypatch, [0.01, 0.5, 0.3], *flags)
  result = json.loads(capsys.readouterr().out)
  assert result['other_load'] == 0.3
  assert result['ratio'] == 3.0, 'the second try of the peer'


def test_a_repetition_whose_load_is_not_known_marks_the_row(
  monkeypatch, capsys
):
  _measured(monkeypatch, [0.01, None], '--rounds=2', '--json')
  result = json.loads(capsys.readouterr().out)
  assert result['other_load'] is None and result['cpu_ms_per_step'] == 15


def test_both_sides_are_started_alike(monkeypatch):
  spinning = {'OMP_WAIT_POLICY': 'ACTIVE', 'OMP_NUM_THREADS': '7'}
  for name, value in spinning.items():
    monkeypatch.setenv(name, value)
  words = 'import json, os; print(json.dumps(dict(os.environ)))'
  result = benchmark._spawn([sys.executable, '-c', words])
  assert result.items() >= timing.threads().items()


def _complaint(capsys, *flags):
  assert benchmark.main(['', *flags]) == 2
  out, err = capsys.readouterr()
  assert out == ''
  (line,) = err.splitlines()
  return line


def test_an_out_of_another_kind_is_refused(capsys, tmp_path):
  path = tmp_path / 'rows'
  for text in ('{}\n', 'nonsense\n', '1\n'):
    path.write_text(text)
    assert _complaint(capsys, '--only=mlp:1', f'--out={path}').startswith(
      f'launch: Expected results of this command in --out={path}; got '
    )
    assert path.read_text() == text


@pytest.mark.parametrize(
  'flags, words',
  [
    (['--only=lenet'], "network:batch:size; got 'lenet'"),
    (['--only=lenet:²'], "network:batch:size; got 'lenet:²'"),
    (['--out=/nowhere/rows'], 'got --out=/nowhere/rows (No such file'),
    (['--peer=/nowhere'], 'got --peer=/nowhere, which cannot be run'),
    ([f'--peer={sys.executable}', '--peer_script=/no'], '--peer_script=/no,'),
    (['--lowering=x'], 'a known lowering'),
    (['--precision=x'], 'a known precision'),
    (['--suite=zo'], "did you mean 'zoo'?"),
    (['--suite=generative', '--restarts=2'], 'Expected no --restarts with'),
    (['--suite=generative', '--precision=bfloat16'], 'no --precision with'),
    (['--suite=generative', '--only=lenet:1'], "workload='lenet:1'"),
    (['--rounds=0'], 'rounds=0'),
    (['--tries=0'], 'tries=0'),
    (['--local_steps=2', '--peer=python'], 'no --peer with --local_steps'),
    (['lenet:1'], "remove 'lenet:1'"),
    (['--onyl=lenet:1'], 'did you mean --only?'),
  ],
)
def test_mistakes_are_one_line(capsys, flags, words):
  assert words in _complaint(capsys, *flags)


def test_help_of_both_commands(capsys):
  for module in (benchmark, workload):
    assert module.main(['', '--help']) == 0
    out = capsys.readouterr().out
    assert out.startswith(module.__doc__.strip()) and '--lowering=auto' in out


def test_a_peer_with_another_network_is_refused(tmp_path, run):
  peer = tmp_path / 'peer'
  peer.write_text('#!/bin/sh\necho \'{"parameters": 7}\'\n')
  peer.chmod(0o755)
  flags = ('--restarts=1', '--steps=2', '--rounds=1', '--suite=zoo')
  with pytest.raises(
    SystemExit, match=r'Expected the same network of the peer for lenet:1; got '
  ) as caught:
    run('--only=lenet:1', *flags, f'--peer={peer}')
  # Sixteen classes.
  assert 'parameters of 7, not 24,052; fix' in str(caught.value)


_OWN = {
  'unit': 'gradient',
  'parameters': 5,
  'generator_parameters': 7,
  'losses': [[0.5], [0.4]],
  'ms_per_unit': 1.0,
  'cpu_ms_per_unit': 2.0,
  'units_per_second': 3.0,
  'compile_seconds': 4.0,
  'cached_seconds': 5.0,
  'other_load': 0.0,
}
_PEER = {
  'parameters': 5,
  'generator_parameters': 7,
  'losses': [[0.5001], [0.401]],
  'ms_per_unit': 6.0,
  'cpu_ms_per_unit': 8.0,
  'vmap_losses': [[0.5], [0.4]],
  'vmap_ms_per_unit': 2.5,
  'vmap_cpu_ms_per_unit': 3.0,
  'other_load': 0.01,
}


def _generative(monkeypatch, peer, *flags):
  """Runs the generative suite on these figures, and returns its commands."""
  commands = []

  def spawn(command):
    commands.append(command)
    ours = any(word.endswith('generative_workload') for word in command)
    return dict(_OWN if ours else peer)

  monkeypatch.setattr(benchmark, '_spawn', spawn)
  benchmark.main(
    [
      '',
      '--suite=generative',
      '--only=lti:lenet',
      '--rounds=1',
      f'--peer={sys.executable}',
      *flags,
    ]
  )
  return commands


def test_both_generative_sides_have_one_case(monkeypatch, capsys):
  ours, theirs = _generative(monkeypatch, _PEER, '--json')
  assert ours[-1] == theirs[-1] and ours[-1].startswith('--case=')
  result = json.loads(capsys.readouterr().out)
  assert result['ratio'] == 4.0 and result['vmap_ratio'] == 1.5
  assert result['peer_vmap_ms_per_unit'] == 2.5


def test_a_form_that_the_peer_lacks_is_left_open(monkeypatch, capsys):
  peer = {k: v for k, v in _PEER.items() if not k.startswith('vmap_')}
  _generative(monkeypatch, peer)
  titles, rule, row = capsys.readouterr().out.splitlines()
  assert titles.count('|') == rule.count('|') == row.count('|')
  cells = dict(zip(*([c.strip() for c in t.split('|')] for t in (titles, row))))
  assert cells['ratio'] == '4.00' and cells['vmap ratio'] == '–'
  assert cells['unit'] == 'gradient'


@pytest.mark.parametrize(
  'other, same',
  [
    ([[0.5, 0.1], [0.4, 0.1]], True),
    ([[0.5004, 0.09995], [0.4, 0.1]], True),
    ([[0.5, 0.1], [0.42, 0.10009]], True),
    ([[0.5, 0.1], [0.4, 0.1], [9.0, 9.0]], True),  # a step that ours lacks
    ([[0.5, 0.1002], [0.4, 0.1]], False),
    ([[0.5, 0.1], [0.5, 0.1]], False),  # without a step between them
    ([[0.5, 0.1], [0.4, 0.1002]], False),
    ([[0.5, math.nan], [0.4, 0.1]], False),
    ([[0.5], [0.4]], False),
    ([[0.5, 0.1]], False),
  ],
)
def test_losses_of_the_same_steps(other, same):
  own = [[0.5, 0.1], [0.4, 0.1]]
  assert benchmark.same_losses(own, other) == same


@pytest.mark.parametrize(
  'key, value, words',
  [
    ('losses', [[0.501], [0.4]], 'got losses=[[0.501], [0.4]], not [[0.5]'),
    ('vmap_losses', [[0.5], [0.5]], 'got vmap_losses=[[0.5], [0.5]], not'),
    ('generator_parameters', 8, 'generator_parameters of 8, not 7'),
  ],
)
def test_a_peer_that_does_something_else_is_refused(
  monkeypatch, key, value, words
):
  with pytest.raises(SystemExit, match='launch: Expected the same') as caught:
    _generative(monkeypatch, {**_PEER, key: value})
  assert words in str(caught.value)
  assert str(caught.value).endswith('torch_generative_speed.py')
