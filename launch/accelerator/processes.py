"""The processes that the kit starts, each of which may be cut off."""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import ctypes
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import time
from typing import Any

_PACKAGE = __package__
_GRACE = 20.0  # seconds in which an audit saves what it has
_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


class TimeUpError(Exception):
  """A process did not answer in time."""


class EndedError(Exception):
  """A process ended where it should not have."""


class Worker:
  """A process that measures rows, started when it is first asked."""

  def __init__(self, log: pathlib.Path):
    """Args: log: the file that its stderr is added to."""
    self._log = log
    self._process: subprocess.Popen | None = None

  def __enter__(self) -> 'Worker':
    return self

  def __exit__(self, *_: Any) -> None:
    self.stop()

  def ask(self, task: Sequence[Any], seconds: float) -> dict[str, Any]:
    """Returns the figures of a row.

    Args:
      task: the name of a function of `worker` and its arguments.
      seconds: how long to wait.

    Raises:
      TimeUpError: there was no answer in time.
      EndedError: the process ended instead of answering.
    """
    process = self._started()
    assert process.stdin and process.stdout
    with contextlib.suppress(BrokenPipeError):
      process.stdin.write(json.dumps(task).encode() + b'\n')
      process.stdin.flush()
    if not select.select([process.stdout], [], [], seconds)[0]:
      self.stop()
      raise TimeUpError
    line = process.stdout.readline()
    if not line:
      code = process.wait()
      self.stop()
      raise EndedError(_ending(code, self._log.read_text(errors='replace')))
    return json.loads(line)

  def stop(self) -> None:
    """Ends the process, so that others have the device to themselves."""
    if self._process:
      kill(self._process)
      for pipe in (self._process.stdin, self._process.stdout):
        if pipe:
          with contextlib.suppress(BrokenPipeError):
            pipe.close()
      self._process = None

  def _started(self) -> subprocess.Popen:
    if self._process is None:
      with self._log.open('a') as log:
        self._process = subprocess.Popen(
          [sys.executable, '-m', f'{_PACKAGE}.worker'],
          stdin=subprocess.PIPE,
          stdout=subprocess.PIPE,
          stderr=log,
          bufsize=0,
          start_new_session=True,
          preexec_fn=_die_with_parent,
        )
    return self._process


def run(
  command: Sequence[str],
  log: pathlib.Path,
  seconds: float,
  *,
  environment: Mapping[str, str] | None = None,
  until: Callable[[], bool] = lambda: False,
  gently: bool = False,
) -> tuple[int, str]:
  """Runs a command to its end.

  Args:
    command: the words of the command.
    log: the file that its stderr is added to.
    seconds: how long to wait.
    environment: changes of the environment.
    until: a condition under which it is killed.
    gently: whether SIGTERM is sent before SIGKILL when time is up, and waited
      for.

  Returns:
    Its exit code, negative for a signal, and what it printed.

  Raises:
    TimeUpError: time was up.
  """
  end = time.monotonic() + seconds
  with log.open('a') as errors:
    process = subprocess.Popen(
      command,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=errors,
      env={**os.environ, **(environment or {})},
      text=True,
      start_new_session=True,
      preexec_fn=_die_with_parent,
    )
  try:
    while True:
      if until():
        kill(process)
      try:
        out, _ = process.communicate(timeout=0.05)
        return process.returncode, out
      except subprocess.TimeoutExpired:
        if time.monotonic() > end:
          break
    if gently:
      process.terminate()
      with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_GRACE)
    raise TimeUpError
  finally:
    kill(process)


def kill(process: subprocess.Popen) -> None:
  """Ends a process and those that it started."""
  with contextlib.suppress(ProcessLookupError):
    os.killpg(process.pid, signal.SIGKILL)
  process.wait()


def _die_with_parent() -> None:
  """Has this process killed when the kit is, where the system can do that.

  An audit that went on alone would keep the device from the next command.
  """
  if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def failure(code: int, log: pathlib.Path) -> str:
  """Returns in one line how a command failed."""
  return _ending(code, log.read_text(errors='replace'))


def _ending(code: int, errors: str) -> str:
  tail = (errors.strip().splitlines() or ['nothing on stderr'])[-1]
  how = f'exit code {code}'
  if code < 0:
    how = f'killed by {signal.Signals(-code).name}'
  return f'{how}: {tail}'
