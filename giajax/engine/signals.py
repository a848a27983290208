"""Requests to stop."""

import signal
import sys
import threading


class Interrupted(Exception):  # noqa: N818 it is no error
  """The run was asked to stop, and saved first."""


class Stop:
  """Turns SIGTERM and SIGINT into a flag that the loop reads.

  A second signal ends the process at once; what was saved stays.
  """

  def __init__(self):
    self.asked = False
    self._old = {}

  def __enter__(self):
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGTERM, signal.SIGINT):
        self._old[number] = signal.signal(number, self._ask)
    return self

  def _ask(self, number, frame):
    if self.asked:
      sys.exit(128 + number)
    self.asked = True

  def __exit__(self, *args):
    for number, handler in self._old.items():
      signal.signal(number, handler)
