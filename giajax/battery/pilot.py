"""What attacks take, by a few steps of each."""

from collections.abc import Mapping, Sequence
import pathlib
import tempfile
import time
from typing import Any, NamedTuple

from giajax.engine import build
from giajax.engine import hooks
from giajax.engine import run as engine
from giajax.engine import sweep

STEPS = 10


class Pace(NamedTuple):
  """What attacks take together, in seconds.

  Attributes:
    step: for one step of each of them, and of each of their noise controls.
    rest: for all that is no step: compiling, reading what they found, scoring.
  """

  step: float
  rest: float


class _LateError(Exception):
  """Trying the attacks has taken too long."""


class _Stopwatch:
  """A hook that adds up what a step takes, over the parts of a run.

  The first piece of a part warms up the program and does not count.
  """

  def __init__(self, until: float):
    self.seconds = 0.0
    self._until = until
    self._first: hooks.Status | None = None

  def __call__(self, status: hooks.Status) -> None:
    first = self._first
    if first is None or status.step <= first.step:  # another part
      self._first = status
    elif status.step == status.steps:
      steps = status.step - first.step
      self.seconds += (status.seconds - first.seconds) / steps
    if time.perf_counter() > self._until:
      raise _LateError


def pace(
  base: Mapping[str, Any],
  variants: Sequence[Mapping[str, Any]],
  grounds: build.Grounds,
  seconds: float,
) -> Pace | None:
  """Returns what variants take that share their number of steps.

  All of them run, since a step of one that takes the update for a gradient may
  cost a fraction of a step of one that plays the client's epochs. What takes
  half of the time here leaves none for steps, as it has to be done again: the
  attempt then ends, and None is returned.

  Args:
    base: the config of an audit, without sweep.
    variants: the values of a sweep over 'variant'.
    grounds: see `build.experiment`.
    seconds: the time for the attempt and for what follows it.

  Raises:
    ValueError: a user's mistake, in one line.
    Interrupted: SIGTERM or SIGINT arrived.
  """
  short = [
    {**own, 'attack': {**own['attack'], 'num_steps': STEPS}} for own in variants
  ]
  # A record ends a piece, and many short pieces take longer.
  config = {**base, 'records': 1, 'sweep': {sweep.VARIANT: short}}
  began = time.perf_counter()
  watch = _Stopwatch(began + seconds / 2)
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'pilot'
    try:
      engine.audit(config, path, hooks=[watch], grounds=grounds)
    except _LateError:
      return None
  spent = time.perf_counter() - began
  return Pace(watch.seconds, max(0.0, spent - STEPS * watch.seconds))
