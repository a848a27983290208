"""Tests of the launcher for Slurm: its script, and a real Slurm."""

import os
import pathlib
import shlex
import signal
import subprocess

import commandline
import loopback_slurm
import pytest
import tiny

from giajax.engine.remote import mirror
from launch import slurm

# Seconds of steps in the part of each case, saved after every piece.
_CHANGES = (
  'attack__num_steps=6000, run__save_seconds=0.0, run__cases_per_batch=1, '
  'cases__count={cases}, noise_controls=0, restarts=4'
)
_BACK = 'launch: back into the queue, to continue from what is saved\n'


def _script(capsys, *flags):
  """Returns the script for an experiment."""
  assert slurm.main(['slurm', '--config=smoke', '--dry_run', *flags]) == 0
  return capsys.readouterr().out


def _options(script):
  """Returns the options of sbatch in a script, as a shell reads them."""
  lines = [x for x in script.splitlines() if x.startswith('#SBATCH ')]
  return [word for line in lines for word in shlex.split(line[8:])]


def _commands(tmp_path, script, code=0, state='RUNNING', **variables):
  """Runs a script, with other commands of Slurm's; what they were given."""
  places = tmp_path / 'commands'
  places.mkdir()
  for name, text in {
    'srun': f'printf "%s\\n" srun "$@"; exit {code}',
    'squeue': f'echo {state}',
    'scontrol': 'printf "%s\\n" scontrol "$@"',
  }.items():
    path = places / name
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)
  done = subprocess.run(
    ['bash'],
    input=script,
    env={'PATH': f'{places}:{os.environ["PATH"]}', **variables},
    capture_output=True,
    text=True,
  )
  assert done.returncode == code, done.stderr
  return done.stdout.splitlines()


def test_an_array_of_shards(tmp_path, capsys):
  script = _script(
    capsys,
    *(f'--workdir={tmp_path}/a b', '--array=4', '--time=1:00:00', '--grace=9'),
    *(
      '--partition=long',
      '--gpus_per_node=2',
      '--sbatch=--qos=low,--exclusive',
    ),
    *('--config.seed=4', "--config.model.name=$(touch x)'`touch y`"),
  )
  assert {
    *(f'--output={tmp_path}/a b/logs/%A_%a.txt', '--open-mode=append'),
    *('--array=0-3', '--requeue', '--signal=TERM@9', '--time=1:00:00'),
    *('--partition=long', '--gpus-per-node=2', '--qos=low', '--exclusive'),
    *('--nodes=1', f'--chdir={pathlib.Path.cwd()}'),
  } <= {*_options(script)}
  words = _commands(tmp_path, script, SLURM_ARRAY_TASK_ID='3')
  assert words[words.index('giajax.main') + 1 :] == [
    *('--config=smoke', f'--workdir={tmp_path}/a b', '--config.seed=4'),
    "--config.model.name=$(touch x)'`touch y`",
    '--shard=3/4',
  ]


@pytest.mark.parametrize(
  'index, words',
  [
    ('4', 'Expected shard i/n with 0 <= i < n; got 4/4'),
    ('', 'Expected --shard=I/N; got --shard=/4'),
  ],
)
def test_a_script_that_is_no_task_of_its_array(tmp_path, capsys, index, words):
  script = _script(capsys, f'--workdir={tmp_path / "run"}', '--array=4')
  command = _commands(tmp_path, script, SLURM_ARRAY_TASK_ID=index)
  command = command[command.index('giajax.main') + 1 :]
  assert words in commandline.complaint(capsys, *command)


def test_processes_of_several_nodes(tmp_path, capsys):
  flags = '--nodes=2', '--processes_per_node=4', '--gpus_per_node=8'
  script = _script(
    capsys, f'--workdir={tmp_path}', '--cpus_per_node=16', *flags
  )
  assert {'--nodes=2', '--ntasks-per-node=4', '--cpus-per-task=4'} <= {
    *_options(script)
  }
  words = _commands(tmp_path, script, SLURM_JOB_ID='17')
  assert {'--gpus-per-task=2', '--cpus-per-task=4'} <= {*words}
  (inner,) = [word for word in words if word.startswith('exec ')]
  done = subprocess.run(
    ['bash', '-c', inner, 'process', 'echo', 'a b'],
    env={
      'SLURM_PROCID': '5',
      'SLURM_NTASKS': '8',
      'SLURM_JOB_ID': '30017',
      'SLURM_LAUNCH_NODE_IPADDR': '10.0.0.1',
    },
    capture_output=True,
    text=True,
  )
  assert done.stdout == (
    'a b --processes=8 --process=5 --coordinator=10.0.0.1:20017 '
    '--join_seconds=300\n'
  )


@pytest.mark.parametrize(
  'code, state, idle, said',
  [
    (0, 'RUNNING', 0, None),
    (2, 'RUNNING', 0, None),
    (85, 'RUNNING', 0, 'back into the queue'),
    (85, 'RUNNING', 4, 'back into the queue'),
    (85, 'RUNNING', 5, 'Expected a run that gets further; got exit code 85'),
    (85, 'COMPLETING', 0, 'cancelled'),
    (137, 'RUNNING', 0, 'Expected a run that gets further; got exit code 137'),
  ],
)
def test_what_goes_back_without_progress(
  tmp_path, capsys, code, state, idle, said
):
  script = _script(capsys, f'--workdir={tmp_path}')
  (tmp_path / 'logs').mkdir()
  (tmp_path / 'logs' / '7.idle').write_text(idle * '\n')
  lines = _commands(tmp_path, script, code, state, SLURM_JOB_ID='7')
  lines = lines[lines.index(f'--workdir={tmp_path}') + 1 :]
  assert bool(lines) == bool(said)
  if said:
    assert lines[0].startswith(f'launch: {said}')
  back = ['scontrol', 'requeue', '7'] if said == 'back into the queue' else []
  assert lines[1:] == back


@pytest.mark.parametrize('code', [85, 137])
@pytest.mark.parametrize(
  'path, counts',
  [
    ('parts/000-00000-00001.npz', True),
    ('checkpoints/000-00000-00001/2', True),
    ('checkpoints/000-00000-00001/2.orbax-checkpoint-tmp', False),
    ('checkpoints/000-00000-00001.aside/2', False),
    ('logs/7.txt', False),
  ],
)
def test_progress(tmp_path, capsys, code, path, counts):
  workdir = tmp_path / 'tmp'
  script = _script(capsys, f'--workdir={workdir}')
  made, idle = workdir / path, workdir / 'logs' / '7.idle'
  idle.parent.mkdir(parents=True)
  idle.write_text(5 * '\n')
  run = f'mkdir -p {made.parent}; touch {made}; srun '
  script = script.replace('srun ', run)
  lines = _commands(tmp_path, script, code, SLURM_JOB_ID='7')
  assert ('requeue' in lines) == counts
  assert idle.exists() != counts


def test_a_bucket(tmp_path, capsys, monkeypatch):
  """A task's progress is what its node has kept of the workdir."""
  url, cache = 'gs://b/run', tmp_path / 'cache'
  flags = f'--workdir={url}', f'--logs={tmp_path}/logs', '--array=2'
  script = _script(capsys, *flags)
  assert f'--output={tmp_path}/logs/%A_%a.txt' in _options(script)
  monkeypatch.setenv('XDG_CACHE_HOME', str(cache))
  made = mirror.working(url, (1, 2)) / 'parts' / '000-00000-00001.npz'
  (tmp_path / 'logs').mkdir()
  run = f'mkdir -p {made.parent}; touch {made}; srun '
  variables = {
    'SLURM_ARRAY_JOB_ID': '7',
    'SLURM_ARRAY_TASK_ID': '1',
    'XDG_CACHE_HOME': str(cache),
  }
  script = script.replace('srun ', run)
  lines = _commands(tmp_path, script, 137, **variables)
  assert {f'--workdir={url}', '--shard=1/2', 'requeue', '7_1'} <= {*lines}


@pytest.mark.parametrize(
  'flags, words',
  [
    (('--workdir=gs://b/run',), 'got gs://b/run alone; add --logs=DIR'),
    (('--workdir=a%j',), 'a --workdir without %'),
    (('--workdir=a', '--array=0'), 'array=0'),
    (('--workdir=a', '--config.seed=-1'), 'seed of at least'),
    (('--workdir=a"b',), 'options of sbatch such as --qos=low'),
    (('--workdir=a', '--partition=a\nid'), "got '--partition=a\\nid'"),
    (('--workdir=a', '--sbatch=qos'), "got 'qos'; correct it"),
    (
      ('--workdir=a', '--processes_per_node=8', '--gpus_per_node=4'),
      'got --gpus_per_node=4 for --processes_per_node=8',
    ),
    (
      ('--workdir=a', '--processes_per_node=2', '--cpus_per_node=3'),
      'got --cpus_per_node=3 for --processes_per_node=2',
    ),
  ],
)
def test_mistakes_are_one_line(capsys, flags, words):
  assert slurm.main(['slurm', '--config=smoke', '--dry_run', *flags]) == 2
  out, err = capsys.readouterr()
  (line,) = err.splitlines()
  assert line.startswith('launch: Expected') and words in line
  assert not out


def test_commas_in_brackets_cut_no_option(capsys):
  flag = '--sbatch=--exclude=n[1,3-5],--qos=low'
  script = _script(capsys, '--workdir=run', flag)
  assert '#SBATCH --exclude="n[1,3-5]"' in script
  assert '#SBATCH --qos="low"' in script


def test_a_queue_that_does_not_answer(tmp_path, capsys, monkeypatch):
  for name, text in (('squeue', 'echo no answer >&2; exit 1'), ('sbatch', '')):
    path = tmp_path / 'bin' / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)
  monkeypatch.setenv('PATH', f'{tmp_path}/bin:{os.environ["PATH"]}')
  (tmp_path / 'run' / 'logs').mkdir(parents=True)
  (tmp_path / 'run' / 'logs' / 'job').write_text('7')
  code = slurm.main(['slurm', '--config=smoke', f'--workdir={tmp_path}/run'])
  assert code == 2
  assert 'whether job 7 runs; got no answer' in capsys.readouterr().err


def test_a_machine_without_slurm(tmp_path, capsys, monkeypatch):
  monkeypatch.setenv('PATH', str(tmp_path))
  assert slurm.main(['slurm', '--config=smoke', f'--workdir={tmp_path}/r']) == 2
  assert 'got one without sbatch; use a login' in capsys.readouterr().err
  assert not (tmp_path / 'r').exists()


def test_help(capsys):
  assert slurm.main(['slurm', '--help']) == 0
  out = capsys.readouterr().out
  assert out.startswith(slurm.__doc__.strip()) and '--grace=60' in out


# A real Slurm.


@pytest.fixture(name='cluster', scope='module')
def _cluster():
  """Yields a Slurm with two nodes of two cores."""
  if lacking := loopback_slurm.lacking():
    pytest.skip(lacking)
  with (
    pytest.MonkeyPatch.context() as patch,
    loopback_slurm.running(2) as cluster,
  ):
    for name, value in cluster.environment.items():
      patch.setenv(name, value)
    patch.setenv('JAX_PLATFORMS', 'cpu')
    patch.chdir(tiny.ROOT)
    yield cluster


class _Job:
  """A job, and a run of its config that nobody disturbs."""

  def __init__(self, cluster, folder, cases, *flags):
    config = tiny.write(folder / 'tiny.py', _CHANGES.format(cases=cases))
    self._cluster, self._folder = cluster, folder
    self._flags = [f'--config={config}', f'--workdir={folder / "run"}']
    assert self.submit(*flags) == 0
    self._number = (folder / 'run' / 'logs' / 'job').read_text()
    alone = f'--workdir={folder / "alone"}'
    self._alone = tiny.start(f'--config={config}', alone, devices=4)

  def submit(self, *flags):
    return slurm.main(['slurm', *self._flags, *flags])

  def saved(self, case):
    """Returns whether there is a whole checkpoint of a case."""
    part = f'000-{case:05d}-{case + 1:05d}'
    found = (self._folder / 'run' / 'checkpoints' / part).glob('[0-9]*')
    return any(path.name.isdigit() for path in found)

  def log(self, task=''):
    logs = self._folder / 'run' / 'logs'
    return (logs / f'{self._number}{task}.txt').read_text()

  def kill(self, variable):
    """Kills a giajax of the job as `kill -9` does."""
    for pid in self._cluster.processes(variable):
      command = pathlib.Path(f'/proc/{pid}/cmdline').read_bytes().split(b'\0')
      if b'python' in command[0] and b'giajax.main' in command:
        os.kill(pid, signal.SIGKILL)
        return
    raise AssertionError(f'no giajax has {variable}')

  def check(self):
    """Waits for the end of the job and compares its bits."""
    report = self._folder / 'run' / 'report.html'
    self._cluster.wait(report.exists, 120)
    self._cluster.wait(lambda: not self._cluster.ask('squeue', '--noheader'))
    tiny.finish(self._alone)
    alone = tiny.digest(self._folder / 'alone')
    assert tiny.digest(self._folder / 'run') == alone


def test_array(cluster, tmp_path, monkeypatch, capsys):
  """One task is preempted, and one is killed."""
  monkeypatch.setenv('JAX_NUM_CPU_DEVICES', '4')
  job = _Job(cluster, tmp_path, 4, '--array=4')
  assert job.submit('--array=4') == 2
  assert 'which is that of job' in capsys.readouterr().err
  task = 'SLURM_ARRAY_TASK_ID={}'.format
  cluster.wait(lambda: all(cluster.processes(task(i)) for i in range(4)))
  there = 'SLURMD_NODENAME=node1'
  killed = next(i for i in range(4) if cluster.processes(task(i), there))
  cluster.wait(lambda: job.saved(killed))
  urgent = '--partition=urgent', '--nodelist=node0', '--output=none'
  cluster.ask('sbatch', *urgent, '--wrap=:')
  job.kill(task(killed))
  job.check()
  logs = [job.log(f'_{i}') for i in range(4)]
  back = {i for i in range(4) if logs[i].count(_BACK) == 1}
  (preempted,) = back - {killed}
  assert killed in back
  assert sum(log.count(_BACK) for log in logs) == 2
  saved = 'giajax: stopped and saved at step '
  for i, log in enumerate(logs):
    assert ('asked to stop' in log or saved in log) == (i == preempted)
    continued = i == killed or saved in log
    assert log.count('continuing at step ') == continued


def test_processes_on_two_nodes(cluster, tmp_path, monkeypatch):
  """One process is killed, and then one node."""
  monkeypatch.setenv('JAX_NUM_CPU_DEVICES', '2')
  job = _Job(cluster, tmp_path, 1, '--nodes=2')
  cluster.wait(lambda: job.saved(0))
  job.kill('SLURM_PROCID=1')
  cluster.wait(lambda: _BACK in job.log())
  assert 'got the end of process 1; see what it' in job.log()
  cluster.wait(lambda: not cluster.processes('SLURM_PROCID=1'))
  cluster.wait(lambda: cluster.processes('SLURM_PROCID=1'))  # again
  cluster.kill_node(1)
  cluster.wait(lambda: cluster.ask('squeue', '-ho%T') == 'PENDING\n')
  cluster.start_node(1)
  job.check()
  assert job.log().count('continuing at step') == 2  # in each process
  assert job.log().count(_BACK) == 1  # the second time, it was Slurm
