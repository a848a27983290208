"""Tests of several processes that run one audit together."""

import os
import signal
import subprocess
import sys

import commandline
import pytest
import tiny

from giajax import interrupts
from giajax.engine import together

_CHANGES = (
  'attack__num_steps=4000, run__save_seconds=0.0, cases__count=1, '
  'noise_controls=0, restarts=4'
)


def _pair(config, workdir, *changes, shared=()):
  """Starts two processes of two devices; the second one has further flags."""
  flags = [f'--config={config}', f'--workdir={workdir}', '--processes=2']
  flags += [f'--coordinator=localhost:{tiny.port()}', *shared]
  return [
    tiny.start(*flags, f'--process={i}', *(changes if i else ()), devices=2)
    for i in range(2)
  ]


def _lines(errors):
  """Returns what was written to stderr except for steps."""
  return [x for x in errors.splitlines() if not x.startswith('step ')]


@pytest.mark.parametrize(
  'flags, line',
  [
    (('--processes=2',), 'got --coordinator=; give all processes the address'),
    *(
      (
        ('--processes=2', f'--coordinator={address}'),
        'Expected --coordinator=HOST:PORT with a port from 1 to 65535; got '
        f'--coordinator={address};',
      )
      for address in (
        *('foo', 'foo:', ':1234', 'foo:bar', 'localhost:0'),
        *('localhost:65536', 'localhost:99999', 'localhost:-1', '[]:80'),
      )
    ),
    (
      ('--processes=2', '--coordinator=nowhere.invalid:1234'),
      'Expected a --coordinator whose host has an address; got '
      '--coordinator=nowhere.invalid:1234: ',
    ),
    (
      ('--processes=2', '--coordinator=a..b:1234'),
      'Expected a --coordinator whose host has an address',
    ),
    (
      ('--process=1',),
      'Expected --process from 0 to 0 for --processes=1; got --process=1; ',
    ),
    (
      ('--process=2', '--processes=2', '--coordinator=localhost:1234'),
      'Expected --process from 0 to 1 for --processes=2; got --process=2; ',
    ),
    (('--join_seconds=0',), 'join_seconds'),
  ],
)
def test_flags_that_do_not_fit(tmp_path, capsys, flags, line):
  workdir = tmp_path / 'run'
  said = commandline.complaint(
    capsys, '--config=smoke', f'--workdir={workdir}', *flags
  )
  assert line in said
  assert not workdir.exists()


def test_addresses():
  assert together.check('localhost:1234', 2, 1) == ('localhost', 1234)
  assert together.check('[::1]:65535', 2, 0) == ('::1', 65535)


def test_one_that_is_alone(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(together, '_link', None)
  address = f'localhost:{tiny.port()}'
  said = commandline.complaint(
    capsys,
    *('--config=smoke', f'--workdir={tmp_path / "run"}', '--processes=2'),
    *(f'--coordinator={address}', '--process=1', '--join_seconds=1'),
  )
  assert said.startswith(
    f'giajax: Expected process 0 at --coordinator={address}; got Connection '
    'refused; start it by the same command with --process=0'
  )


def test_a_machine_whose_name_has_no_address_yet(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(together, '_link', None)
  said = commandline.complaint(
    capsys,
    *('--config=smoke', f'--workdir={tmp_path / "run"}', '--processes=2'),
    *('--coordinator=nowhere.invalid:80', '--process=1', '--join_seconds=1'),
  )
  assert said.startswith(
    'giajax: Expected process 0 at --coordinator=nowhere.invalid:80; got '
  )


def test_a_mistake_in_one_is_the_line_of_all(tmp_path):
  config = tiny.write(tmp_path / 'pair.py')
  pair = _pair(config, tmp_path / 'run', '--config.cases.count=-1')
  first, second = [_lines(tiny.finish(process, 2)) for process in pair]
  assert len(second) == 1
  assert second[0].startswith('giajax: Expected ') and 'got ' in second[0]
  assert first == [f'{second[0]} (in process 1)']
  assert not (tmp_path / 'run').exists()


_DEAF = """
import hashlib, sys
from giajax import interrupts
interrupts.watch('giajax', 'continues')
from giajax.engine import together
together._start_jax = lambda *args: None  # it takes seconds
with together.joined(sys.argv[1], 2, int(sys.argv[2])):
  print('met', flush=True)
  hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)
"""


def test_a_request_to_one_that_does_not_look_ends_both_alike():
  address = f'localhost:{tiny.port()}'
  pair = [
    subprocess.Popen(
      [sys.executable, '-c', _DEAF, address, str(i)],
      cwd=tiny.ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(2)
  ]
  for process in pair:
    assert process.stdout and process.stdout.readline() == 'met\n'
  pair[1].send_signal(signal.SIGTERM)
  for process in pair:
    _, errors = process.communicate(timeout=60)
    assert errors == 'giajax: asked to stop; the same command continues\n'
    assert process.returncode == interrupts.STOPPED


def test_two_processes_stop_end_and_continue_together(tmp_path):
  """To the bits of one process with as many devices that nobody disturbs."""
  config = tiny.write(tmp_path / 'pair.py', _CHANGES)
  alone, workdir = tmp_path / 'alone', tmp_path / 'run'
  tiny.finish(tiny.start(f'--config={config}', f'--workdir={alone}', devices=4))

  def started():
    pair = _pair(config, workdir)
    assert tiny.wait_for(pair[0], lambda: 'step ' in tiny.errors(pair[0]))
    return pair

  pair = started()
  pair[1].send_signal(signal.SIGTERM)
  for process in pair:
    *_, line = _lines(tiny.finish(process, 85))
    assert line.startswith('giajax: stopped and saved at step ')
    assert line.endswith('; the same command continues')

  pair = started()
  tiny.kill(pair[0])  # JAX would abort the other one
  lines = _lines(tiny.finish(pair[1], 2))
  assert all(line.startswith('giajax: ') for line in lines)
  assert lines[-1] == (
    'giajax: Expected 2 processes until all are done; got the end of process '
    '0; see what it printed last, and start all again by the same commands: '
    'they continue'
  )
  assert not any('Expected' in line for line in lines[:-1])

  pair = _pair(config, workdir)
  for process in pair:
    assert 'continuing at step' in tiny.finish(process)
  assert tiny.digest(workdir) == tiny.digest(alone)


def test_two_processes_run_one_shard(tmp_path):
  """And another process the other one."""
  changes = 'noise_controls=0, run__cases_per_batch=1, restarts=4'
  config = tiny.write(tmp_path / 'pair.py', changes)
  alone, workdir = tmp_path / 'alone', tmp_path / 'run'
  flags = f'--config={config}', f'--workdir={workdir}', '--shard=0/2'
  for process in _pair(config, workdir, shared=['--shard=1/2']):
    assert '1 left, in 1 part' in tiny.finish(process)
  assert not (workdir / 'recon.npz').exists()
  tiny.finish(tiny.start(*flags, devices=4))
  tiny.finish(tiny.start(f'--config={config}', f'--workdir={alone}', devices=4))
  assert tiny.digest(workdir) == tiny.digest(alone)


_SLURM = """
import sys
import jax
from giajax.engine import together
together.agreed = lambda values: values
together._start_jax(sys.argv[1], 1, 0)
print(jax.config.values['jax_cuda_visible_devices'])
"""


def test_a_job_of_slurm_leaves_all_devices_to_a_process():
  names = 'JOB_ID', 'STEP_NODELIST', 'NTASKS', 'PROCID', 'LOCALID'
  done = subprocess.run(
    [sys.executable, '-c', _SLURM, f'127.0.0.1:{tiny.port()}'],
    cwd=tiny.ROOT,
    env={**os.environ, **{f'SLURM_{name}': '0' for name in names}},
    capture_output=True,
    text=True,
  )
  assert done.stdout == 'all\n', done.stderr
