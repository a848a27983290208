"""Tests of the launcher for Slurm: its script, and a real Slurm."""

import os
import pathlib
import re
import shlex
import signal
import subprocess

import loopback_slurm
import pytest
import tiny

from launch import slurm

_ROOT = pathlib.Path(__file__).resolve().parents[2]
# Seconds of steps in each of four parts, saved after every piece.
_CHANGES = (
  'attack__num_steps=12000, run__save_seconds=0.0, run__cases_per_batch=1, '
  'cases__count=4, noise_controls=0, restarts=4'
)


# A real Slurm.


@pytest.fixture(name='cluster', scope='module')
def _cluster():
  """Yields a Slurm with two nodes of two cores."""
  if lacking := loopback_slurm.lacking():
    pytest.skip(lacking)
  with loopback_slurm.running(2) as cluster:
    yield cluster


@pytest.fixture(name='job')
def _job(cluster, monkeypatch, tmp_path, capsys):
  """Returns a function that submits the tiny experiment; its number."""
  for name, value in cluster.environment.items():
    monkeypatch.setenv(name, value)
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  monkeypatch.chdir(_ROOT)
  config = tiny.write(tmp_path / 'tiny.py', _CHANGES)

  def submit(devices, *flags):
    monkeypatch.setenv('JAX_NUM_CPU_DEVICES', str(devices))
    workdir = f'--workdir={tmp_path / "run"}'
    assert slurm.main(['slurm', f'--config={config}', workdir, *flags]) == 0
    return re.match(r'job (\d+);', capsys.readouterr().out)[1]

  return submit


def _undisturbed(folder, devices):
  """Returns the hash of a run that nobody disturbs."""
  arguments = f'--config={folder / "tiny.py"}', f'--workdir={folder / "alone"}'
  tiny.finish(tiny.start(*arguments, devices=devices))
  return tiny.digest(folder / 'alone')


def _saved(folder, part):
  """Returns whether a part has a whole checkpoint."""
  name = f'000-{part:05d}-{part + 1:05d}'
  steps = (folder / 'run' / 'checkpoints' / name).glob('[0-9]*')
  return any('tmp' not in path.name for path in steps)


def _log(folder, number):
  return (folder / 'run' / 'logs' / f'{number}.txt').read_text()


def _kill(cluster, variable):
  """Kills the giajax of a job as `kill -9` does."""
  for pid in cluster.processes(variable):
    words = pathlib.Path(f'/proc/{pid}/cmdline').read_bytes().split(b'\0')
    if b'python' in words[0] and b'giajax.main' in words:
      os.kill(pid, signal.SIGKILL)
      return
  raise AssertionError(f'no giajax with {variable}')


_BACK = 'launch: back into the queue, to continue from what is saved\n'


def test_array(cluster, job, tmp_path):
  """One task is preempted, and one is killed."""
  number = job(1, '--array=4')
  cluster.wait(lambda: all(_saved(tmp_path, i) for i in range(4)))
  back = lambda i: _BACK in _log(tmp_path, f'{number}_{i}')
  cluster.ask('sbatch', '--partition=urgent', '--output=none', '--wrap=:')
  cluster.wait(lambda: any(map(back, range(4))))
  preempted, killed = sorted(range(4), key=back, reverse=True)[:2]
  _kill(cluster, f'SLURM_ARRAY_TASK_ID={killed}')
  cluster.wait(lambda: back(killed))
  cluster.wait((tmp_path / 'run' / 'report.html').exists, 120)
  assert tiny.digest(tmp_path / 'run') == _undisturbed(tmp_path, 1)
  for i in range(4):
    log = _log(tmp_path, f'{number}_{i}')
    assert log.count('continuing at step ') == (i in (preempted, killed))
    assert ('stopped and saved at step' in log) == (i == preempted)
  assert cluster.ask('squeue', '--noheader') == ''


def test_processes_on_two_nodes(cluster, job, tmp_path):
  """One process is killed, and then one node."""
  number = job(2, '--nodes=2')
  cluster.wait(lambda: _saved(tmp_path, 0))
  _kill(cluster, 'SLURM_PROCID=1')
  cluster.wait(lambda: _BACK in _log(tmp_path, number))
  print(_log(tmp_path, number))
  cluster.wait(lambda: 'continuing at step' in _log(tmp_path, number))
  cluster.kill_node(1)
  cluster.wait(lambda: cluster.ask('squeue', '-ho%T') == 'PENDING\n')
  cluster.start_node(1)
  cluster.wait((tmp_path / 'run' / 'report.html').exists, 120)
  print(_log(tmp_path, number))
  assert tiny.digest(tmp_path / 'run') == _undisturbed(tmp_path, 4)
