"""Tests of several processes that run one audit together."""

import json
import socket

import tiny


def _run(tmp_path, *changes, code=0):
  """Runs two processes; the second one has further flags."""
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    port = probe.getsockname()[1]
  config = tiny.write(tmp_path / 'pair.py', 'attack={"name": "linear_layer"}')
  flags = [f'--config={config}', f'--workdir={tmp_path / "run"}']
  flags += ['--processes=2', f'--coordinator=localhost:{port}']
  pair = [
    tiny.start(*flags, f'--process={i}', *(changes if i else ()))
    for i in range(2)
  ]
  return [tiny.finish(process, code) for process in pair]


def test_two_processes_are_one_run(tmp_path):
  _run(tmp_path)
  lines = (tmp_path / 'run' / 'results.jsonl').read_text().splitlines()
  assert len([json.loads(line) for line in lines]) == 2


def test_processes_with_different_configs_are_refused(tmp_path):
  for errors in _run(tmp_path, '--config.seed=1', code=2):
    lines = [x for x in errors.splitlines() if x.startswith('giajax: ')]
    assert lines == [
      'giajax: Expected one run in all processes, seed=0 as in process 0; got '
      'seed=1 in process 1; start process 1 by the same command'
    ]
  assert not (tmp_path / 'run').exists()
