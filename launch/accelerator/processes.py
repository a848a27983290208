"""The processes that the kit starts, each of which may be cut off."""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import time
from typing import Any

from .. import children

_PACKAGE = __package__
_GRACE = 20.0  # seconds in which a process saves what it has
_POLL = 0.05  # seconds
_ERROR = re.compile(r'(giajax: |[\w.]+(Error|Exception|Interrupt)\b)')
# A command that is killed with the kit, where the system can do that: an audit
# that went on alone would keep the device from the next command.
_TIED = ()
if sys.platform == 'linux':
  _TIE = (
    'import ctypes, os, signal, sys; PR_SET_PDEATHSIG = 1; '
    'ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL); '
    'os.execvp(sys.argv[1], sys.argv[1:])'
  )
  _TIED = (sys.executable, '-c', _TIE)


class TimeUpError(Exception):
  """A process did not answer in time."""


class EndedError(Exception):
  """A process ended where it should not have."""


class Worker:
  """A process that measures rows, started when it is first asked."""

  def __init__(self, log: pathlib.Path):
    """Makes a worker that is not started yet.

    Args:
      log: the file that its stderr is added to.
    """
    self._log = log
    self._process: subprocess.Popen | None = None
    self._begin = 0  # of what this process writes to the log

  def __enter__(self) -> 'Worker':
    return self

  def __exit__(self, *_: Any) -> None:
    self.stop()

  def ask(self, task: Sequence[Any], end: float) -> dict[str, Any]:
    """Returns the figures of a row.

    Args:
      task: the name of a function of `worker` and its arguments.
      end: when to stop waiting, by `time.monotonic`.

    Raises:
      TimeUpError: there was no answer in time.
      EndedError: the process ended instead of answering.
    """
    process = self._started()
    assert process.stdin and process.stdout
    with contextlib.suppress(BrokenPipeError):
      process.stdin.write(json.dumps(task).encode() + b'\n')
      process.stdin.flush()
    seconds = max(0.0, end - time.monotonic())
    if not select.select([process.stdout], [], [], seconds)[0]:
      self.stop()
      raise TimeUpError
    line = process.stdout.readline()
    if not line:
      code = process.wait()
      self.stop()
      raise EndedError(_failure(code, self._log, self._begin))
    return json.loads(line)

  def stop(self) -> None:
    """Ends the process, so that others have the device to themselves."""
    if self._process:
      children.kill(self._process)
      for pipe in (self._process.stdin, self._process.stdout):
        if pipe:
          with contextlib.suppress(BrokenPipeError):
            pipe.close()
      self._process = None

  def _started(self) -> subprocess.Popen:
    if self._process is None:
      with self._log.open('a') as log:
        self._begin = log.tell()
        self._process = children.start(
          [*_TIED, sys.executable, '-m', f'{_PACKAGE}.worker'],
          stdin=subprocess.PIPE,
          stdout=subprocess.PIPE,
          stderr=log,
          bufsize=0,
        )
    return self._process


def run(
  command: Sequence[str],
  log: pathlib.Path,
  end: float,
  *,
  environment: Mapping[str, str] | None = None,
  until: Callable[[], bool] | None = None,
  gently: bool = False,
) -> str:
  """Runs a command to its end, and returns what it printed.

  Args:
    command: the words of the command.
    log: the file that its stderr is added to.
    end: when to stop waiting, by `time.monotonic`.
    environment: changes of the environment.
    until: a condition under which it is killed, which it has to live to see.
    gently: whether SIGTERM is sent before SIGKILL when time is up, and waited
      for.

  Raises:
    TimeUpError: time was up.
    EndedError: it failed, or ended before the condition held.
  """
  with log.open('a') as errors:
    begin = errors.tell()
    process = children.start(
      [*_TIED, *command],
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=errors,
      env={**os.environ, **(environment or {})},
      text=True,
    )
  try:
    while not (until and until()):
      try:
        out, _ = process.communicate(timeout=_POLL)
      except subprocess.TimeoutExpired:
        if time.monotonic() > end:
          break
      else:
        if process.returncode:
          raise EndedError(_failure(process.returncode, log, begin))
        if until:
          raise EndedError('it ended before it could be killed')
        return out
    else:
      return ''
    if gently:
      process.terminate()
      with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_GRACE)
    raise TimeUpError
  finally:
    children.kill(process)


def _failure(code: int, log: pathlib.Path, begin: int) -> str:
  """Returns in one line how a process failed.

  Args:
    code: its exit code.
    log: the file that its stderr went to.
    begin: where that begins.
  """
  errors = log.read_bytes()[begin:].decode(errors='replace')
  lines = [line for line in errors.splitlines() if line.strip()]
  # JAX adds notes behind the error.
  named = [line for line in lines if _ERROR.match(line)]
  tail = (named or lines or ['nothing on stderr'])[-1]
  how = f'exit code {code}'
  if code < 0:
    how = f'killed by {signal.Signals(-code).name}'
  return f'{how}: {tail}'
