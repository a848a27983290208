"""Requests to stop."""

from collections.abc import Iterator
import contextlib
import signal
import sys
import threading

from giajax import interrupts


class Interrupted(Exception):  # noqa: N818 it is no error
  """The run was asked to stop, and saved first."""


class Stop:
  """Turns requests to stop into a flag that the loop reads.

  A second request ends the process at once; what was saved stays. In a command,
  `interrupts` answers signals, and passes them on while there is something to
  save; otherwise it ends the process. In a program that uses this package,
  SIGTERM and SIGINT are caught as long as the audit lasts.
  """

  def __init__(self):
    self.asked = False
    self._old = {}

  def __enter__(self):
    main = threading.current_thread() is threading.main_thread()
    if main and not interrupts.watched():
      for number in (signal.SIGTERM, signal.SIGINT):
        self._old[number] = signal.signal(number, self._ask)
    return self

  def _ask(self, number, frame):
    if self.asked:
      sys.exit(128 + number)
    self.asked = True

  @contextlib.contextmanager
  def saving(self) -> Iterator[None]:
    """Has the first request wait for the loop, which looks at `asked`."""
    with interrupts.passed_to(self._take):
      yield
    if self.asked and interrupts.watched():
      interrupts.ask()  # it came behind the last look

  def _take(self) -> bool:
    first = not self.asked
    self.asked = True
    return first

  def __exit__(self, *args):
    for number, handler in self._old.items():
      signal.signal(number, handler)
