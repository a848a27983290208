"""What happens between two chunks of a run, such as a progress bar.

A hook is a callable `(Status) -> None`. It may look and write, but never
changes a run. A user adds one by passing any such callable.
"""

from collections.abc import Callable
import sys
from typing import NamedTuple, TextIO

import tqdm


class Status(NamedTuple):
  """Where a run is."""

  step: int  # steps done, of every restart
  steps: int  # steps in all
  alive: int  # restarts that are still finite
  restarts: int  # restarts in all, over all points
  best: float  # the lowest objective of the attacker so far
  seconds: float  # since this process began to step


Hook = Callable[[Status], None]


def progress(
  stream: TextIO | None = None, every: float = 10.0, width: int | None = None
) -> Hook:
  """Returns a hook that shows a bar, or plain lines where there is no terminal.

  The rate and the time left are measured from the second call on, so that
  neither the compilation nor the steps before a resume count.

  Args:
    stream: where the hook writes; standard error by default.
    every: the seconds between two plain lines. The last line always appears.
    width: the columns of the bar; those of the terminal by default.
  """
  stream = sys.stderr if stream is None else stream
  if stream.isatty():
    return _Bar(stream, width)
  return _Lines(stream, every)


class _Pace:
  """The speed of a part of a run since the first status it saw."""

  def __init__(self):
    self._first: Status | None = None

  def __call__(self, status: Status) -> tuple[float, float] | None:
    """Returns restart-steps per second and seconds left, None if unknown."""
    first = self._first = self._first or status
    seconds, steps = status.seconds - first.seconds, status.step - first.step
    if seconds <= 0 or steps <= 0:
      return None
    left = (status.steps - status.step) * seconds / steps
    return steps * status.restarts / seconds, left


class _Lines:
  """Plain lines, for logs."""

  def __init__(self, stream: TextIO, every: float):
    self._stream, self._every = stream, every
    self._pace, self._due = _Pace(), 0.0

  def __call__(self, status: Status) -> None:
    pace = self._pace(status)
    if status.seconds < self._due and status.step < status.steps:
      return
    self._due = status.seconds + self._every
    line = f'step {status.step}/{status.steps}, {_describe(status, pace)}'
    if pace and status.step < status.steps:
      line += f', {tqdm.tqdm.format_interval(pace[1])} left'
    print(line, file=self._stream, flush=True)
    if status.step >= status.steps:  # the next status is of another part
      self._pace, self._due = _Pace(), 0.0


class _Bar:
  """A bar, for terminals; it opens on the first status."""

  def __init__(self, stream: TextIO, width: int | None):
    self._stream, self._width = stream, width
    self._pace = _Pace()
    self._bar: tqdm.tqdm | None = None

  def __call__(self, status: Status) -> None:
    pace = self._pace(status)
    if self._bar is None:
      self._bar = self._open(status.steps)
    bar = self._bar
    left = f', {tqdm.tqdm.format_interval(pace[1])} left' if pace else ''
    bar.set_postfix_str(_describe(status, pace) + left, refresh=False)
    bar.n = status.step
    bar.refresh()
    if status.step >= status.steps:
      bar.close()
      self._bar, self._pace = None, _Pace()

  def _open(self, steps: int) -> tqdm.tqdm:
    return tqdm.tqdm(
      total=steps,
      file=self._stream,
      ncols=self._width,
      dynamic_ncols=self._width is None,
      bar_format='{percentage:3.0f}% {bar} {n_fmt}/{total_fmt}{postfix}',
    )


def _describe(status: Status, pace: tuple[float, float] | None) -> str:
  text = f'{status.alive}/{status.restarts} alive, best {status.best:.4g}'
  return f'{text}, {pace[0]:.3g} restart-steps/s' if pace else text
