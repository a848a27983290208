"""giajax in a process of its own, and how that process ended.

A process is forked from one that has imported everything and has not started
JAX: a try takes as long as its work, without the seconds of an import. What it
writes to standard error is kept in a file.
"""

import atexit
from collections.abc import Callable
import importlib
import os
import pathlib
import resource
import signal
import sys
import time
from typing import NamedTuple

import jax
import numpy as np

from giajax import interrupts
from giajax import main
from giajax.commands import dispatch

_MEMORY = 6 << 30  # bytes; what needs more fails
_KILL = 30.0  # seconds that the kernel may take
_TURN = 0.002  # seconds between two looks at a process
# What a command writes to standard error beside its one line.
_OURS = ('giajax: ', 'step ', 'epoch ')
_COMPLAINT = 'giajax: Expected '


class Ending(NamedTuple):
  """How a process ended.

  Attributes:
    code: its exit code, negative after a signal; None if it had to be killed
      because it did not end.
    errors: what it wrote to standard error.
    seconds: how long it ran.
    memory: the most memory that it held, in bytes.
  """

  code: int | None
  errors: str
  seconds: float
  memory: int

  @property
  def verdict(self) -> str:
    """What it comes to: one of `tries.GOOD` and `tries.BAD`, or 'killed'."""
    if self.code is None:
      return 'hang'
    if self.code == -signal.SIGKILL:
      return 'killed'
    lines = self.errors.splitlines()
    complaints = [x for x in lines if x.startswith(_COMPLAINT)]
    clean = all(x.startswith(_OURS) for x in lines)
    if self.code == 2 and clean and len(complaints) == 1:
      return 'refused'
    if self.code == interrupts.STOPPED and clean and not complaints:
      return 'stopped'
    # `giajax verify` ends with 1 where a check objects.
    if self.code in (0, 1) and clean and not complaints:
      return 'accepted'
    return 'traceback'


class Process:
  """A running process."""

  def __init__(self, errors: pathlib.Path, work: Callable[[], None]):
    """Starts a process.

    Args:
      errors: the file that its standard error goes to.
      work: what it does; it may raise SystemExit.
    """
    self._errors = errors
    self._errors.touch()
    self._ending: Ending | None = None
    self._began = time.monotonic()
    self.number = os.fork()
    if not self.number:
      _be(errors, work)

  @property
  def errors(self) -> str:
    """What it has written to standard error so far."""
    return self._errors.read_text('utf-8', 'backslashreplace')

  def send(self, number: int) -> None:
    """Sends a signal, if the process is still there."""
    if self.ending(0) is None:
      os.kill(self.number, number)

  def ending(
    self, seconds: float, until: Callable[[], bool] = lambda: False
  ) -> Ending | None:
    """Waits for a process.

    Args:
      seconds: how long.
      until: a condition that ends the waiting as well.

    Returns:
      How it ended; None if it is running.
    """
    end = time.monotonic() + seconds
    while self._ending is None:
      number, status, usage = os.wait4(self.number, os.WNOHANG)
      if number:
        self._ending = Ending(
          os.waitstatus_to_exitcode(status),
          self.errors,
          time.monotonic() - self._began,
          1024 * usage.ru_maxrss,
        )
      elif time.monotonic() >= end or until():
        break
      else:
        time.sleep(_TURN)
    return self._ending

  def finished(self, seconds: float = 60.0) -> Ending:
    """Returns how it ended, `seconds` from now at the latest."""
    ending = self.ending(seconds)
    if ending is not None:
      return ending
    self.send(signal.SIGKILL)
    killed = self.ending(_KILL)
    if killed is None:
      raise RuntimeError(f'process {self.number} survives SIGKILL')
    return killed._replace(code=None)


class Lab(NamedTuple):
  """What one try works with.

  Attributes:
    random: what it draws from.
    own: its folder.
    shared: the folder of all tries, which also holds compiled programs.
  """

  random: np.random.Generator
  own: pathlib.Path
  shared: pathlib.Path

  def start(
    self,
    *arguments: object,
    devices: int = 1,
    prepare: Callable[[], None] = lambda: None,
  ) -> Process:
    """Starts a command line, without its first word.

    Args:
      *arguments: the words.
      devices: the number of devices.
      prepare: a function that the process calls before.
    """
    errors = self.own / f'errors-{len([*self.own.glob("errors-*")])}'
    cache = str(self.shared / 'compiled')

    def work():
      resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
      # The variables are for the command, which would set both.
      os.environ['JAX_NUM_CPU_DEVICES'] = str(devices)
      os.environ['JAX_COMPILATION_CACHE_DIR'] = cache
      jax.config.update('jax_platforms', 'cpu')
      jax.config.update('jax_num_cpu_devices', devices)
      jax.config.update('jax_compilation_cache_dir', cache)
      jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
      sys.argv = ['giajax', *map(str, arguments)]
      prepare()
      main.run()

    return Process(errors, work)


def whole(lab: Lab, *arguments: object) -> Process:
  """Starts a command line, without its first word, in a Python of its own."""
  words = [sys.executable, '-m', main.__name__, *map(str, arguments)]
  variables = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'JAX_NUM_CPU_DEVICES': '1',
    'JAX_COMPILATION_CACHE_DIR': str(lab.shared / 'compiled'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  errors = lab.own / f'errors-{len([*lab.own.glob("errors-*")])}'
  return Process(errors, lambda: os.execve(sys.executable, words, variables))


def ready() -> None:
  """Imports everything that a command needs, once for all processes."""
  for name in dispatch.COMMANDS:
    importlib.import_module(f'giajax.commands.{name}')
  for name in ('orbax.checkpoint', 'PIL.Image', 'matplotlib.figure'):
    importlib.import_module(name)


def _be(errors: pathlib.Path, work: Callable[[], None]) -> None:
  """Does the work in this process, which was forked for it, and ends it."""
  os.setsid()
  nowhere = os.open(os.devnull, os.O_RDWR)
  file = os.open(errors, os.O_WRONLY | os.O_APPEND)
  for source, target in ((nowhere, 0), (nowhere, 1), (file, 2)):
    os.dup2(source, target)
  code = 0
  try:
    work()
  except SystemExit as end:
    code = end.code if isinstance(end.code, int) else 1
  except BaseException:  # as Python itself does
    sys.excepthook(*sys.exc_info())
    code = 1
  atexit._run_exitfuncs()
  sys.stderr.flush()
  os._exit(code)
