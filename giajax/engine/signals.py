"""Requests to stop, and what several processes of one run agree on."""

from collections.abc import Sequence
import signal
import sys
import threading

import jax
from jax.experimental import multihost_utils
import numpy as np


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


def agreed(values: Sequence[float]) -> np.ndarray:
  """Returns the largest of each value over processes, the same on all.

  Processes of one run must decide alike: when to stop, to save, and how many
  steps to take.
  """
  local = np.asarray(values, np.float32)
  if jax.process_count() == 1:
    return local
  return np.max(multihost_utils.process_allgather(local), axis=0)


def texts(own: str) -> list[str]:
  """Returns the text of each process of the run, in their order."""
  if jax.process_count() == 1:
    return [own]
  data = np.frombuffer(own.encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.int32(data.size))
  padded = np.zeros(int(np.max(sizes)), np.uint8)
  padded[: data.size] = data
  every = multihost_utils.process_allgather(padded)
  return [bytes(row[:size]).decode() for row, size in zip(every, sizes)]
