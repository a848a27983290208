"""The processes that a launch command starts, which end with it."""

from collections.abc import Mapping, Sequence
import contextlib
import os
import signal
import subprocess
import time
from typing import Any

from giajax import interrupts

_GRACE = 20.0  # seconds in which a process that was killed ends
_MOMENT = 1.5  # seconds in which one that was asked to stop saves
_running: set[subprocess.Popen] = set()


def start(command: Sequence[str], **options: Any) -> subprocess.Popen:
  """Starts a process in a session of its own.

  Args:
    command: the words of the command.
    **options: as for `subprocess.Popen`.
  """
  with interrupts.undisturbed():
    process = subprocess.Popen(command, start_new_session=True, **options)
    _running.add(process)
  return process


def run(
  command: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
  """Runs a command to its end, and keeps what it prints."""
  process = start(
    command,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=environment,
  )
  try:
    out, err = process.communicate()
  finally:
    kill(process)
  return subprocess.CompletedProcess(command, process.returncode, out, err)


def kill(process: subprocess.Popen) -> None:
  """Ends a process and those that it started."""
  # While all are ended, this waits: what one of them left counts for nothing.
  with interrupts.undisturbed():
    _send(process, signal.SIGKILL)
    _running.discard(process)
  # One that hangs in a driver is left to the system.
  with contextlib.suppress(subprocess.TimeoutExpired):
    process.wait(_GRACE)


def wait(process: subprocess.Popen) -> int:
  """Returns the exit code of a process that ends by itself."""
  code = process.wait()
  with interrupts.undisturbed():
    _running.discard(process)
  return code


def ask() -> None:
  """Asks all of them to stop."""
  for process in _running:
    _send(process, signal.SIGTERM)


def end_all() -> None:
  """Ends all of them; the last that a command does, see `interrupts.watch`."""
  ask()
  end = time.monotonic() + _MOMENT
  while time.monotonic() < end and any(p.poll() is None for p in _running):
    time.sleep(0.02)
  for process in _running:
    _send(process, signal.SIGKILL)


def _send(process: subprocess.Popen, number: int) -> None:
  with contextlib.suppress(ProcessLookupError):
    os.killpg(process.pid, number)
