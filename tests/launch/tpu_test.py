"""Tests of the launcher for TPUs, with imitations of what it calls."""

import os
import shlex
import subprocess
import sys

import pytest

from launch import tpu

_CURL = """#!/bin/sh
for url; do :; done
case $url in
  http://metadata.google.internal/*/agent-worker-number) echo 1 ;;
  http://metadata.google.internal/*/worker-network-endpoints) echo "$HOSTS" ;;
  *) exit 22 ;;
esac
"""
_GCLOUD = """#!/bin/sh
echo "$@" >> "$LOG"
case $LAST in "$4") exit 7 ;; esac
"""


@pytest.fixture(name='flags')
def _flags(tmp_path):
  """Returns what every command line has."""
  wheel = tmp_path / 'giajax 1-py3-none-any.whl'
  wheel.touch()
  return [
    *('--config=smoke', '--workdir=/mnt/b/a run', '--tpu=slice-1'),
    *('--zone=us-east5-b', f'--wheel={wheel}'),
  ]


def _program(path, text):
  path.parent.mkdir(exist_ok=True, parents=True)
  path.write_text(text)
  path.chmod(0o755)


def _plan(capsys, *flags):
  """Returns the words of each command."""
  assert tpu.main(['tpu', *flags, '--dry_run']) == 0
  words = shlex.split(capsys.readouterr().out)
  starts = [i for i, word in enumerate(words) if word == 'gcloud']
  plan = [words[a:b] for a, b in zip(starts, [*starts[1:], None])]
  for command in plan:
    assert command[1:4] == ['compute', 'tpus', 'tpu-vm']
    assert {'--zone=us-east5-b', '--worker=all'} <= {*command}
  return [command[4:] for command in plan]


def _text(command):
  (text,) = [word for word in command if word.startswith('--command=')]
  return text.removeprefix('--command=')


def _told(tmp_path, text, hosts, **variables):
  """Runs what a host is told, at home; returns what it prints."""
  _program(tmp_path / 'bin' / 'curl', _CURL)
  environment = {'PATH': f'{tmp_path / "bin"}:{os.environ["PATH"]}'}
  return subprocess.run(
    ['sh', '-c', text],
    cwd=tmp_path,
    env={**environment, 'HOSTS': hosts, **variables},
    capture_output=True,
    text=True,
  )


def test_what_is_copied(capsys, flags, tmp_path):
  config = tmp_path / 'mine.py'
  config.write_text(
    'from giajax.engine import build\n\n\n'
    'def get_config(arg=None):\n  return build.default_config()\n'
  )
  plan = _plan(capsys, *flags, f'--config={config}:big', '--project=p')
  assert [command[0] for command in plan] == ['ssh', 'scp', 'scp', 'ssh', 'ssh']
  wheel = flags[-1].removeprefix('--wheel=')
  assert plan[1][1:3] == [wheel, 'slice-1:giajax_run/']
  assert plan[2][1:3] == [str(config), 'slice-1:giajax_run/config.py']
  assert '--config=config.py:big' in shlex.split(_text(plan[-1]))
  assert all('--project=p' in command for command in plan)


def test_the_wheel_is_installed_where_the_run_finds_it(capsys, flags, tmp_path):
  python = '#!/bin/sh\necho "$1 $2 $3"\nmkdir -p "$3/bin"\ncp pip "$3/bin"\n'
  _program(tmp_path / 'bin' / 'python3', python)
  _program(tmp_path / 'pip', '#!/bin/sh\nfor last; do :; done; echo "$last"\n')
  done = _told(tmp_path, _text(_plan(capsys, *flags)[2]), '')
  wheel = 'giajax_run/giajax 1-py3-none-any.whl'
  lines = ['-m venv giajax_run/venv', f'{wheel}[tpu]', wheel]
  assert done.stdout.splitlines() == lines, done.stderr


@pytest.mark.parametrize(
  'hosts, count, first',
  [
    ('10.0.0.7,10.0.0.8', 2, '10.0.0.7'),
    ('a:0:10.0.0.7,b:1:10.0.0.8,c:2:10.0.0.9', 3, '10.0.0.7'),
    ('t1v-host-0', 1, 't1v-host-0'),
  ],
)
def test_each_host_is_one_process(capsys, flags, tmp_path, hosts, count, first):
  python = tmp_path / 'giajax_run' / 'venv' / 'bin' / 'python'
  _program(python, '#!/bin/sh\nprintf "%s\\n" $$ "$@"\n')
  value = "--config.model.name=$(touch x)'`touch y`"
  text = _text(_plan(capsys, *flags, value, '--shard=1/2')[-1])
  done = _told(tmp_path, text, hosts)
  pid, *words = done.stdout.splitlines()
  assert words == [
    *('-m', 'giajax.main', '--config=smoke', '--workdir=/mnt/b/a run', value),
    *('--shard=1/2', f'--processes={count}', '--process=1'),
    *(f'--coordinator={first}:8476', '--join_seconds=300'),
  ]
  # The signal of --stop reaches the run itself.
  assert (tmp_path / 'giajax_run' / 'pid').read_text() == f'{pid}\n'


def test_a_bucket(capsys, flags):
  plan = _plan(capsys, *flags, '--workdir=gs://b/run')
  assert "'[tpu,gcs]'" in _text(plan[-2])
  assert '--workdir=gs://b/run' in _text(plan[-1])


def test_a_host_without_metadata(capsys, flags, tmp_path):
  (tmp_path / 'giajax_run').mkdir()
  text = _text(_plan(capsys, *flags)[-1]).replace('agent-', 'no-')
  assert _told(tmp_path, text, '').returncode == 22


def test_stop(capsys, flags, tmp_path):
  (command,) = _plan(capsys, *flags, '--stop')
  (tmp_path / 'giajax_run').mkdir()
  sleep = [sys.executable, '-c', 'import time; time.sleep(60)']
  with (
    subprocess.Popen([*sleep, '-m', 'giajax.main']) as run,
    subprocess.Popen(sleep) as stranger,
  ):
    for process in (stranger, run):
      (tmp_path / 'giajax_run' / 'pid').write_text(f'{process.pid}\n')
      assert _told(tmp_path, _text(command), '').returncode == 0
    assert run.wait(10) == -15
    assert stranger.poll() is None  # the number was another one's by then
    stranger.kill()


@pytest.mark.parametrize(
  'changes, words',
  [
    (('--workdir=gs://',), 'a URL such as gs://bucket/run; got gs://'),
    (('--workdir=run',), 'the same on all hosts, from / on; got run'),
    (('--tpu=-x',), 'Expected a --tpu of the form'),
    (('--zone=us',), 'Expected a --zone of the form'),
    (('--python=a b',), 'Expected a --python of the form'),
    (('--project=$p',), 'Expected a --project of the form'),
    (('--wheel=none.whl',), 'a --wheel that is a file; got none.whl'),
    (('--shard=2/2',), 'got --shard=2/2; number the slices from 0'),
    (('--shard=x',), 'got --shard=x; write, for instance, 0/4'),
    (('--config.seed=-1',), 'seed of at least'),
    (('--config.model.name={file}:Net',), 'which is a file of this machine'),
  ],
)
def test_mistakes_are_one_line(capsys, flags, tmp_path, changes, words):
  file = tmp_path / 'net.py'
  file.touch()
  changes = [change.replace('{file}', str(file)) for change in changes]
  assert tpu.main(['tpu', *flags, *changes, '--dry_run']) == 2
  out, err = capsys.readouterr()
  (line,) = err.splitlines()
  assert line.startswith('launch: Expected') and words in line
  assert not out


def test_the_commands_run_until_one_fails(capsys, flags, tmp_path, monkeypatch):
  monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
  monkeypatch.setenv('LOG', str(tmp_path / 'log'))
  _program(tmp_path / 'gcloud', _GCLOUD)
  for last, code, count in (('', 0, 4), ('scp', 7, 2)):
    monkeypatch.setenv('LAST', last)
    assert tpu.main(['tpu', *flags]) == code
    lines = (tmp_path / 'log').read_text().split('compute tpus')
    assert len(lines) == count + 1
    (tmp_path / 'log').unlink()


def test_a_machine_without_gcloud(capsys, flags, tmp_path, monkeypatch):
  monkeypatch.setenv('PATH', str(tmp_path))
  assert tpu.main(['tpu', *flags]) == 2
  assert 'Expected gcloud' in capsys.readouterr().err


def test_help(capsys):
  assert tpu.main(['tpu', '--help']) == 0
  assert capsys.readouterr().out.startswith(tpu.__doc__.strip())
