"""Tests of the timing: what else ran, by readings that are made up."""

import os
import subprocess
import sys

import pytest

from launch import timing

_TICK = os.sysconf('SC_CLK_TCK')


def _moment(wall, own, machine):
  return timing.Moment(wall, own / 2, own, machine)


@pytest.mark.parametrize(
  'end, other, shown',
  [
    # Wall, own and busy processor time, in seconds of a machine of two cores.
    ((10.0, 20.0, 20.0), 0.0, '0%'),
    ((10.0, 20.0, 19.9), 0.0, '0%'),  # clocks differ
    ((10.0, 5.0, 5.8), 0.04, '4%'),
    ((10.0, 5.0, 15.0), 0.5, '50% *'),
    ((0.1, 0.1, 0.2), None, '– *'),  # too short for the clock of the kernel
  ],
)
def test_the_other_load_is_what_others_used(end, other, shown):
  wall, own, busy = end
  begin = _moment(0.0, 0.0, (100.0, 200.0))
  took = timing.between(
    begin, _moment(wall, own, (100.0 + busy, 200.0 + 2 * wall))
  )
  assert took[:2] == (wall, own / 2)
  assert took.other == (other if other is None else pytest.approx(other))
  assert timing.shown(took.other) == shown
  assert timing.disturbed(took.other) == ('*' in shown)


@pytest.mark.parametrize('machine', [None, (100.0, 200.0)])
def test_a_machine_that_does_not_say_is_not_called_quiet(machine):
  begin, end = _moment(0.0, 0.0, machine), _moment(10.0, 1.0, machine)
  assert timing.between(begin, end).other is None
  assert timing.most([0.0, None]) is None and timing.disturbed(None)


def test_the_counters_of_the_kernel_are_read(tmp_path, monkeypatch):
  path = tmp_path / 'stat'
  monkeypatch.setattr(timing, '_STAT', str(path))
  assert timing.now().machine is None
  # user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice
  path.write_text('cpu  100 20 3 1000 500 4 5 6 70 8\ncpu0 1 2 3\n')
  busy, whole = (round(seconds * _TICK) for seconds in timing.now().machine)
  assert (busy, whole) == (138, 1638)


def test_own_processes_are_no_other_load():
  begin = timing.now()
  work = 'import time\nwhile time.process_time() < 0.2: pass'
  subprocess.run([sys.executable, '-c', work], check=True)
  end = timing.now()
  assert end.own - begin.own >= 0.2 > end.cpu - begin.cpu


def test_both_sides_have_the_cores_of_this_process_and_sleep_while_they_wait():
  environment = timing.threads()
  cores = str(len(os.sched_getaffinity(0)))
  assert environment['OMP_NUM_THREADS'] == cores
  assert environment['OMP_WAIT_POLICY'] == 'PASSIVE'
  assert environment['GOMP_SPINCOUNT'] == environment['KMP_BLOCKTIME'] == '0'


def test_the_peer_can_read_it_without_giajax():
  code = 'import sys, timing; timing.now(); print(*sys.modules)'
  done = subprocess.run(
    [sys.executable, '-S', '-c', code],
    cwd=os.path.dirname(timing.__file__),
    env={},
    capture_output=True,
    text=True,
    check=True,
  )
  assert not {'giajax', 'jax', 'numpy'} & {*done.stdout.split()}
