"""giajax in a process of its own, and how that process ended.

Most processes are forked from one that has imported everything and has not
started JAX: a try takes as long as its work, without the seconds of an import.
What they write is kept in files, and they work in the folder of their try.
"""

import atexit
from collections.abc import Callable
import importlib
import os
import pathlib
import re
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

# Where the package is found, and what else this process was told.
PATH = os.pathsep.join(
  [str(pathlib.Path(__file__).resolve().parents[2]), *sys.path]
)
_MEMORY = 6 << 30  # bytes; what needs more fails
_KILL = 30.0  # seconds that the kernel may take
_TURN = 0.002  # seconds between two looks at a process
# What a command writes to standard error beside its one line.
_OURS = ('giajax: ', 'step ')
_COMPLAINT = 'giajax: Expected '
_CAUGHT = re.compile(r'SigCgt:\s*(\w+)')


class Ending(NamedTuple):
  """How a process ended.

  Attributes:
    code: its exit code, negative after a signal; None if it had to be killed
      because it did not end.
    errors: what it wrote to standard error.
    output: what it wrote to standard output.
    seconds: how long it ran.
    memory: the most memory that it held, in bytes.
    objects: whether an exit code of 1 is an answer, as of `giajax verify`.
  """

  code: int | None
  errors: str
  output: str
  seconds: float
  memory: int
  objects: bool = False

  @property
  def verdict(self) -> str:
    """What it comes to: one of `tries.GOOD` and `tries.BAD`."""
    if self.code is None:
      return 'hang'
    if self.code == -signal.SIGKILL:
      return 'killed'
    lines = self.errors.splitlines()
    complaints = [x for x in lines if x.startswith(_COMPLAINT)]
    plain = all(x.isprintable() for x in [*lines, *self.output.splitlines()])
    clean = plain and all(x.startswith(_OURS) for x in lines)
    if self.code == 2 and clean and len(complaints) == 1:
      return 'refused'
    if self.code == interrupts.STOPPED and clean and not complaints:
      return 'stopped'
    done = (0, 1) if self.objects else (0,)
    if self.code in done and clean and not complaints:
      return 'accepted'
    return 'traceback'


class Process:
  """A running process."""

  def __init__(
    self,
    folder: pathlib.Path,
    work: Callable[[], None],
    *,
    objects: bool = False,
  ):
    """Starts a process.

    Args:
      folder: where it works, and where what it writes is kept.
      work: what it does; it may raise SystemExit.
      objects: see `Ending`.
    """
    number = len([*folder.glob('errors-*')])
    self._errors = folder / f'errors-{number}'
    self._output = folder / f'output-{number}'
    self._objects = objects
    self._ending: Ending | None = None
    self._began = time.monotonic()
    for path in (self._errors, self._output):
      path.touch()
    self.number = os.fork()
    if not self.number:
      _be(folder, self._errors, self._output, work)
    _running.add(self)

  @property
  def errors(self) -> str:
    """What it has written to standard error so far."""
    return _text(self._errors)

  def watches(self) -> bool:
    """Says whether it answers SIGTERM by itself."""
    try:
      with open(f'/proc/{self.number}/status') as file:
        caught = _CAUGHT.search(file.read())
    except OSError:
      return False
    bits = int(caught[1], 16) if caught else 0
    return bool(bits >> (signal.SIGTERM - 1) & 1)

  def send(self, number: int) -> bool:
    """Sends a signal, and says whether the process was still there."""
    if self.ending(0) is not None:
      return False
    os.kill(self.number, number)
    return True

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
        _running.discard(self)
        self._ending = Ending(
          os.waitstatus_to_exitcode(status),
          self.errors,
          _text(self._output),
          time.monotonic() - self._began,
          1024 * usage.ru_maxrss,
          self._objects,
        )
      elif time.monotonic() >= end or until():
        break
      else:
        time.sleep(_TURN)
    return self._ending

  def finished(self, seconds: float = 60.0) -> Ending:
    """Returns how it ended, `seconds` from now at the latest."""
    ending = self.ending(seconds)
    return ending or self.killed()._replace(code=None)

  def killed(self) -> Ending:
    """Kills it, and returns how it ended."""
    self.send(signal.SIGKILL)
    ending = self.ending(_KILL)
    if ending is None:
      raise RuntimeError(f'process {self.number} survives SIGKILL')
    return ending


_running: set[Process] = set()


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

    def work():
      resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
      os.environ.update(self._variables(devices))
      jax.config.update('jax_platforms', 'cpu')
      jax.config.update('jax_num_cpu_devices', devices)
      jax.config.update('jax_compilation_cache_dir', str(self._cache))
      jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
      sys.argv = ['giajax', *map(str, arguments)]
      prepare()
      main.run()

    return Process(self.own, work, objects='verify' in arguments[:1])

  def start_whole(self, *arguments: object) -> Process:
    """Starts a command line in a Python of its own, imports and all."""
    words = [sys.executable, '-m', main.__name__, *map(str, arguments)]
    variables = {**os.environ, **self._variables(1)}
    return Process(
      self.own,
      lambda: os.execve(sys.executable, words, variables),
      objects='verify' in arguments[:1],
    )

  @property
  def _cache(self) -> pathlib.Path:
    return self.shared / 'compiled'

  def _variables(self, devices: int) -> dict[str, str]:
    return {
      'PYTHONPATH': PATH,
      'JAX_PLATFORMS': 'cpu',
      'JAX_NUM_CPU_DEVICES': str(devices),
      'JAX_COMPILATION_CACHE_DIR': str(self._cache),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    }


def ready() -> None:
  """Imports everything that a command needs, once for all processes.

  A signal that this process ignores, as nohup and the shell's `&` ask for,
  would be ignored by the commands as well: it is caught from now on, to the
  same effect here.
  """
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
      signal.signal(number, lambda *_: None)
  for name in dispatch.COMMANDS:
    importlib.import_module(f'giajax.commands.{name}')
  for name in ('orbax.checkpoint', 'PIL.Image', 'matplotlib.figure'):
    importlib.import_module(name)


def kill_all() -> None:
  """Kills the processes that are still running."""
  for process in [*_running]:
    process.killed()


def _be(
  folder: pathlib.Path,
  errors: pathlib.Path,
  output: pathlib.Path,
  work: Callable[[], None],
) -> None:
  """Does the work in this process, which was forked for it, and ends it."""
  os.setsid()
  os.chdir(folder)
  for target, path, mode in (
    (0, os.devnull, os.O_RDONLY),
    (1, output, os.O_WRONLY | os.O_APPEND),
    (2, errors, os.O_WRONLY | os.O_APPEND),
  ):
    os.dup2(os.open(path, mode), target)
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


def _text(path: pathlib.Path) -> str:
  return path.read_text('utf-8', 'backslashreplace')
