"""Tests of the launcher for one machine."""

import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

import pytest

from giajax import interrupts
from launch import local

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_CONFIG = """
from giajax.engine import build


def get_config(arg=None):
  config = build.default_config()
  config.dataset = dict(name='photographs', size=12)
  config.cases.count = 2
  config.model = dict(name='mlp', widths=(8,))
  config.attack = dict(name='linear_layer')
  config.noise_controls = 0
  return config
"""


@pytest.fixture
def config(tmp_path):
  """Returns the path of a config of two items."""
  path = tmp_path / 'config.py'
  path.write_text(_CONFIG)
  return path


def _start(*arguments):
  return subprocess.Popen(
    [sys.executable, '-m', 'launch.local', *map(str, arguments)],
    cwd=_ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def test_dry_run_touches_nothing(capsys, tmp_path):
  arguments = ['local', '--config=smoke', f'--workdir={tmp_path}/run']
  more = ['--processes=3', '--config.seed=4', '--dry_run']
  assert local.main([*arguments, *more]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 4
  for i, line in enumerate(lines):
    words = shlex.split(line)
    assert '--config=smoke' in words
    assert '--config.seed=4' in words
    assert (f'--shard={i}/3' in words) == (i < 3)
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  'arguments, words',
  [
    ((), 'got nothing; add --config'),
    (('--config=smoke',), 'add --workdir'),
    (('--config=a', '--workdir=b', '--processes=0'), 'processes=0'),
    (('--config=a', '--workdir=b', '--proceses=2'), 'did you mean --processes'),
    (('--config=a', '--workdir=b', 'more'), "remove 'more'"),
    (('--config=smok', '--workdir=b'), "did you mean 'smoke'?"),
    (('--config=smoke', '--workdir=b', '--config.seed=-1'), 'seed of at least'),
    (('--config=smoke', '--workdir=~nouser/b'), '--workdir; got'),
  ],
)
def test_mistakes_are_one_line(capsys, arguments, words):
  assert local.main(['local', *arguments]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith('launch: Expected')
  assert words in line


def test_help(capsys):
  assert local.main(['local', '--help']) == 0
  out = capsys.readouterr().out
  assert out.startswith(local.__doc__.strip()) and '--processes=2' in out


def test_two_shards_and_a_join(config, tmp_path):
  process = _start(f'--config={config}', f'--workdir={tmp_path}/run')
  out, _ = process.communicate(timeout=300)
  assert process.returncode == 0, out
  for prefix in ('[0/2] ', '[1/2] '):
    assert prefix + 'giajax: 2 updates to attack in 1 cohort; 1 left' in out
  assert f'report: {tmp_path}/run/report.html' in out
  meta = json.loads((tmp_path / 'run' / 'config.json').read_text())
  assert meta['command'] == f'giajax --config={config} --workdir={tmp_path}/run'
  lines = (tmp_path / 'run' / 'results.jsonl').read_text().splitlines()
  assert [json.loads(line)['case'] for line in lines] == [0, 1]


def _plan(*scripts):
  return [[sys.executable, '-u', '-c', script] for script in scripts]


def test_failed_shard_is_reported_and_the_others_end(capfd, tmp_path):
  done = tmp_path / 'done'
  plan = _plan(
    "import sys; print('giajax: Expected x'); sys.exit(2)",
    f"import time; time.sleep(.3); open({str(done)!r}, 'w')",
    "print('joined')",
  )
  assert local._launch(plan) == 2
  out = capfd.readouterr().out
  assert '[0/2] giajax: Expected x' in out
  assert 'shard 0/2 ended with exit code 2' in out
  assert 'joined' not in out
  assert done.exists()


def test_killed_shard_counts_as_the_shell_counts(capfd):
  killed = 'import os; os.kill(os.getpid(), 9)'
  assert local._launch(_plan(killed, 'pass')) == 137
  assert 'shard 0/1 was killed by SIGKILL' in capfd.readouterr().out


def test_a_request_between_two_phases_starts_no_other(monkeypatch, capsys):
  _ask_behind(monkeypatch, 1)
  assert local._launch(_plan('pass', "print('joined')")) == 85
  assert 'joined' not in capsys.readouterr().out


def test_a_request_behind_the_join_stops_nothing(monkeypatch, capsys):
  _ask_behind(monkeypatch, 2)
  assert local._launch(_plan('pass', "print('joined')")) == 0
  assert capsys.readouterr() == ('joined\n', '')


def _ask_behind(monkeypatch, phase):
  """Has a request to stop come when a phase has run to its end."""
  run, phases = local._Group.run, []

  def asked(self, *args):
    phases.append(run(self, *args))
    if len(phases) == phase:
      assert self.stop()
    return phases[-1]

  monkeypatch.setattr(local._Group, 'run', asked)


def test_sigterm_goes_to_all_shards():
  shard = (
    'import signal, sys, time; '
    'signal.signal(signal.SIGTERM, lambda *a: sys.exit(85)); '
    "print('ready'); time.sleep(60)"
  )
  plan = _plan(shard, shard, "print('joined')")
  script = (
    'import sys; from giajax import interrupts; from launch import local; '
    "interrupts.watch('launch', 'continues'); "
    f'sys.exit(local._launch({plan}))'
  )
  process = subprocess.Popen(
    [sys.executable, '-u', '-c', script],
    cwd=_ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout
  for prefix in ('[0/2] ready', '[1/2] ready'):
    del prefix
    assert 'ready' in process.stdout.readline()
  began = time.monotonic()
  process.send_signal(signal.SIGTERM)
  out, err = process.communicate(timeout=30)
  assert process.returncode == interrupts.STOPPED
  assert err == 'launch: asked to stop; the same command continues\n'
  assert 'joined' not in out
  assert time.monotonic() - began < 20
