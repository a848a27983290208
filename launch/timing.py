"""How a workload and its peer are timed: both alike, and with what else ran.

An interpreter without giajax reads this file, too, as the peer's may be.

The processor time of a program rises with the load of the machine if its idle
threads spin, as PyTorch's do: they wait for a thread that does not run. So the
threads of both sides sleep while they wait, and the other load is measured: the
share of the machine's processor time that everything but the program used.
"""

from __future__ import annotations  # the peer's Python may be an old one

from collections.abc import Iterable
import os
import resource
import time
from typing import NamedTuple

_STAT = '/proc/stat'
# Runs differ by a tenth to a sixth on an idle machine, whose own services use
# one or two hundredths. A program that keeps one of twenty cores busy is found.
MOST_OTHER = 0.05
# The kernel counts in hundredths of a second: an error of a twentieth.
_LEAST_SECONDS = 0.2
MARK = ' *'
NOTE = (
  f'`*`: while this was timed, other programs used more than {MOST_OTHER:.0%} '
  "of the machine's processor time, or how much they used is not known (–), as "
  f'without /proc/stat or within {_LEAST_SECONDS} s. Times, and ratios of '
  'times, are then not those of an idle machine.'
)


class Moment(NamedTuple):
  """What the clocks say.

  Attributes:
    wall: seconds since any moment.
    cpu: processor time of this process, in seconds.
    own: the same with that of the processes that it started and waited for.
    machine: processor time of the whole machine, in seconds: the busy one, and
      that with the idle one; None if not known.
  """

  wall: float
  cpu: float
  own: float
  machine: tuple[float, float] | None


class Times(NamedTuple):
  """What something took.

  Attributes:
    wall: seconds.
    cpu: seconds of processor time of this process.
    other: the share of the machine's processor time that everything else
      used; None if not known.
  """

  wall: float
  cpu: float
  other: float | None


def threads() -> dict[str, str]:
  """Returns the environment of both sides.

  A thread per core that this process may use, which are those of XLA. None is
  bound to a core, and those that wait sleep at once.
  """
  count = str(len(os.sched_getaffinity(0)))
  return {
    'OMP_NUM_THREADS': count,
    'MKL_NUM_THREADS': count,
    'OMP_PROC_BIND': 'false',
    'OMP_WAIT_POLICY': 'PASSIVE',
    # These would say otherwise for GNU's and Intel's OpenMP.
    'GOMP_SPINCOUNT': '0',
    'KMP_BLOCKTIME': '0',
  }


def now() -> Moment:
  """Returns what the clocks say."""
  used = [
    resource.getrusage(who)
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
  ]
  own = sum(one.ru_utime + one.ru_stime for one in used)
  return Moment(time.perf_counter(), time.process_time(), own, _machine())


def since(begin: Moment) -> Times:
  """Returns what was taken since a moment."""
  return between(begin, now())


def between(begin: Moment, end: Moment) -> Times:
  """Returns what was taken from one moment to another."""
  wall, cpu = end.wall - begin.wall, end.cpu - begin.cpu
  return Times(wall, cpu, _other(begin, end))


def _other(begin: Moment, end: Moment) -> float | None:
  if end.wall - begin.wall < _LEAST_SECONDS:
    return None
  if begin.machine is None or end.machine is None:
    return None
  busy, whole = (b - a for a, b in zip(begin.machine, end.machine))
  if not whole:
    return None  # some sandboxes show a file that stands still
  return max(0.0, busy - (end.own - begin.own)) / whole


def most(loads: Iterable[float | None]) -> float | None:
  """Returns the largest of other loads, which is not known if one is not."""
  largest = 0.0
  for load in loads:
    if load is None:
      return None
    largest = max(largest, load)
  return largest


def disturbed(load: float | None) -> bool:
  """Returns whether a row with this other load is marked."""
  return load is None or load > MOST_OTHER


def shown(load: float | None) -> str:
  """Returns another load as a cell of a table, marked or not."""
  text = '–' if load is None else f'{load:.0%}'
  return text + MARK * disturbed(load)


def _machine() -> tuple[float, float] | None:
  """Returns the busy processor time of the machine, and that with the idle."""
  try:
    with open(_STAT) as file:
      numbers = file.readline().split()[1:9]
  except OSError:
    return None  # no Linux
  # What comes behind is the time of guests, which is in `user` already.
  user, nice, system, idle, waiting, *others = map(int, numbers)
  busy, tick = user + nice + system + sum(others), os.sysconf('SC_CLK_TCK')
  return busy / tick, (busy + idle + waiting) / tick
