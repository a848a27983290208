"""Requests to stop a command: SIGINT, SIGTERM and SIGHUP, at any moment.

Python runs its handlers in the main thread, between two of its own steps: while
XLA compiles or a library is loaded, they wait. A command therefore has a thread
that reads what the system's handler itself writes, and which ends the process
at once, with one line and an exit code of its own. This loses nothing, because
all files are written whole or not at all. Only what has a state to save takes
the request itself, see `passed_to`.

This module imports nothing but the standard library, so that a command can
watch before it imports JAX. As a library, giajax leaves signals alone.
"""

import atexit
from collections.abc import Callable, Iterator
import contextlib
import math
import os
import pathlib
import select
import signal
import sys
import threading
import time
from typing import Any, NoReturn

STOPPED = 85  # the exit code of a command that was asked to stop
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds in which signals are one request: a scheduler may send one to each
# process, and a launcher passes its own on.
_SAME = 0.5


class _Command:
  """What is known of the command that this process runs.

  Attributes:
    program: how its lines begin.
    after: what the same command does when it is given again.
    last: what is done before the process ends.
    pipe: where the numbers of signals are read; None if nobody watches.
    said: whether the line has been written.
    taken: when a request was last taken, by `time.monotonic`.
  """

  def __init__(self):
    self.program, self.after = 'giajax', 'starts again'
    self.last: Callable[[], None] = lambda: None
    self.pipe: int | None = None
    self.said = False
    self.taken = -math.inf


_command = _Command()
_takers: list[Callable[[], bool]] = []
_files: set[pathlib.Path] = set()
_lock = threading.Lock()


def watch(
  program: str, after: str, last: Callable[[], None] = lambda: None
) -> None:
  """Has signals answered from now on, whatever the main thread does.

  Signals that the parent of the process ignores, as nohup does, stay ignored.

  Args:
    program: how the line begins.
    after: what the same command does then, such as 'starts again'.
    last: what is done before the process ends, such as ending others.
  """
  _command.program, _command.after, _command.last = program, after, last
  reading, writing = os.pipe()
  for end in (reading, writing):
    os.set_blocking(end, False)
  _command.pipe = reading
  signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
  threading.Thread(target=_watch, args=(reading,), daemon=True).start()
  renew()
  os.register_at_fork(after_in_child=_leave)
  atexit.register(_finish)  # the first one registered is the last to be called


def watched() -> bool:
  """Returns whether this process runs a command that watches."""
  return _command.pipe is not None


def renew() -> None:
  """Watches again, after a library may have taken a signal for itself."""
  for number in _NUMBERS if watched() else ():
    if signal.getsignal(number) is not signal.SIG_IGN:
      signal.signal(number, _handle)


@contextlib.contextmanager
def passed_to(take: Callable[[], bool]) -> Iterator[None]:
  """Passes requests on, in a command that watches.

  Args:
    take: a short function, called in any thread, which returns whether the
      process has something to do before it ends. If not, that of the `with`
      around this one is called and, behind the last, the process is ended.
  """
  with _lock:
    _takers.append(take)
  try:
    yield
  finally:
    with _lock:
      _takers.pop()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
  """Has requests wait until the `with` is left.

  While one is being answered, the `with` is not entered, and never if the
  answer ends the process.
  """
  with _lock:
    yield


@contextlib.contextmanager
def unfinished(path: pathlib.Path) -> Iterator[None]:
  """Removes a file behind the `with`, or before a request ends the process.

  Args:
    path: a file that is renamed when it is whole.
  """
  with _lock:
    _files.add(path)
  try:
    yield
  finally:
    with contextlib.suppress(OSError):
      path.unlink()
    with _lock:
      _files.discard(path)


def say(text: str) -> None:
  """Writes why a command stops; what is asked for thereafter needs no line."""
  with _lock:
    if not _command.said:
      print(f'{_command.program}: {text}', file=sys.stderr, flush=True)
    _command.said = True


def ask() -> None:
  """Answers a request that was taken but came too late for its taker."""
  with _lock:
    _ask()


def end(code: int = STOPPED, text: str = '') -> NoReturn:
  """Ends the process at once, as a request does, from any thread.

  Args:
    code: its exit code.
    text: its line, if that is not the one of a request.
  """
  _lock.acquire()
  _end(code, text)


def _watch(reading: int) -> None:
  while True:
    select.select([reading], [], [])
    with _lock:
      _answer()


def _handle(number: int, frame: Any) -> None:
  """Answers in the main thread, where that is quicker than the other one."""
  # If it is this thread that holds the lock, the other one waits for it.
  if _lock.acquire(blocking=False):
    try:
      _answer()
    finally:
      _lock.release()


def _answer() -> None:
  """Answers what was asked for and is not yet answered."""
  assert _command.pipe is not None
  try:
    os.read(_command.pipe, 4096)
  except BlockingIOError:
    return
  now = time.monotonic()
  if now - _command.taken < _SAME:
    return
  _ask()
  _command.taken = now


def _ask() -> None:
  if not any(take() for take in reversed(_takers)):
    _end()


def _end(code: int = STOPPED, text: str = '') -> NoReturn:
  """Ends the process; the lock is held for good."""
  if not _command.said:
    _write(text or f'asked to stop; the same command {_command.after}')
  _command.last()
  for path in _files:
    with contextlib.suppress(OSError):
      path.unlink()
  os._exit(code)


def _finish() -> None:
  """Lets a command that has done everything end with its own exit code.

  Python would restore the system's handlers before it has freed everything.
  """
  for number in _NUMBERS:
    signal.signal(number, signal.SIG_IGN)


def _leave() -> None:
  """Gives a child that was forked the handlers that others expect."""
  global _lock
  _lock = threading.Lock()
  signal.set_wakeup_fd(-1)
  for number in _NUMBERS:
    if signal.getsignal(number) is not signal.SIG_IGN:
      signal.signal(number, signal.SIG_DFL)
  _command.pipe = None


def _write(text: str) -> None:
  """Writes to standard error, unless that is closed or nobody reads it.

  Not through Python's stream, in which the main thread may be waiting.
  """
  line = f'{_command.program}: {text}\n'
  stream = sys.__stderr__
  if stream is None:
    return
  with contextlib.suppress(OSError, ValueError):
    number = stream.fileno()
    if os.isatty(number):  # behind a bar, or behind ^C
      line = f'\n{line}'
    if select.select([], [number], [], 1.0)[1]:
      os.write(number, line.encode())
