"""How the process of a command uses the machine, and what it prints."""

from collections.abc import Iterator
import contextlib
import gc
import io
import logging
import os
import re
import signal
import sys
import threading
import warnings

from absl import logging as absl_logging
import jax

from giajax import paths
from giajax import printable

_COUNT = 'xla_force_host_platform_device_count'  # of XLA_FLAGS
_log = logging.getLogger('giajax')


def use_machine() -> None:
  """Sets how this process uses cores and memory, before JAX starts.

  Each CPU core becomes a device, unless the user says otherwise: independent
  restarts keep all cores busy even if one of them is too small to be split.
  Matrices are multiplied in their own precision: an accelerator would round
  their entries first. Garbage is collected rarely, because tracing makes
  millions of objects that stay, and searching them again and again would take
  much of its time.
  """
  gc.set_threshold(1_000_000)
  if 'JAX_DEFAULT_MATMUL_PRECISION' not in os.environ:
    jax.config.update('jax_default_matmul_precision', 'highest')
  counted = _COUNT in os.environ.get('XLA_FLAGS', '')
  if 'JAX_NUM_CPU_DEVICES' not in os.environ and not counted:
    jax.config.update('jax_num_cpu_devices', len(os.sched_getaffinity(0)))


@contextlib.contextmanager
def devices() -> Iterator[None]:
  """Turns devices that JAX cannot start into one line.

  Raises:
    ValueError: it cannot start them.
  """
  try:
    yield
  except RuntimeError as error:
    text = ' '.join(str(error).split())
    if not text.startswith('Unable to initialize backend'):
      raise
    raise ValueError(
      f'Expected a device that JAX can use; got {text}; correct JAX_PLATFORMS, '
      'JAX_NUM_CPU_DEVICES or XLA_FLAGS'
    ) from error


def cache_compilations() -> None:
  """Keeps compiled programs between runs, unless the user names a folder."""
  if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    home = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    folder = paths.expanded(home, 'XDG_CACHE_HOME') / 'giajax' / 'compiled'
    jax.config.update('jax_compilation_cache_dir', str(folder))


def _report(unraisable) -> None:
  """Prints what a thread could not raise, unless it is an echo.

  When a disk is full, Orbax raises that and closes its event loop. The threads
  that still write find it closed, and each would say so.
  """
  if str(unraisable.exc_value) != 'Event loop is closed':
    sys.__unraisablehook__(unraisable)


def _report_of_thread(args: threading.ExceptHookArgs) -> None:
  """Prints what ended a thread, unless it is what a disk refused.

  Orbax raises that again where a save is waited for.
  """
  if not issubclass(args.exc_type, OSError):
    threading.__excepthook__(args)


class _Line(logging.Formatter):
  """Formats a message as one line, whatever names are in it."""

  def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
    return printable.line(super().formatMessage(record))


def guard_output() -> None:
  """Has escapes written for what the encoding of the terminal lacks.

  Standard output also says in one line why it cannot be written.
  """
  out, errors = sys.stdout, sys.stderr
  if isinstance(errors, io.TextIOWrapper):
    errors.reconfigure(errors='backslashreplace')
  if isinstance(out, io.TextIOWrapper):
    encoding = out.encoding
    sys.stdout = _Output(out.detach(), encoding, 'backslashreplace')


def quiet_libraries() -> None:
  """Keeps libraries from writing to standard error beside this package.

  What Pillow, tfds and Orbax warn of is raised where it matters. `python -W`
  still shows their warnings.
  """
  absl_logging.set_verbosity(absl_logging.FATAL)
  # asyncio tells of what Orbax abandons where a checkpoint is damaged, and the
  # drivers of object stores of each attempt.
  for name in ('PIL', 'asyncio', 'gcsfs', 's3fs'):
    logging.getLogger(name).setLevel(logging.CRITICAL)
  if not sys.warnoptions:
    warnings.simplefilter('ignore')
  sys.unraisablehook = _report
  threading.excepthook = _report_of_thread


def log_to_stderr() -> None:
  """Writes the package's log to standard error."""
  handler = logging.StreamHandler()
  handler.setFormatter(_Line('giajax: %(message)s'))
  _log.handlers = [handler]
  _log.setLevel(logging.INFO)
  _log.propagate = False


def shard(text: str) -> tuple[int, int]:
  """Returns (i, n) for a text such as '0/4'.

  Raises:
    ValueError: the text has another form.
  """
  index, _, count = text.partition('/')
  if not re.fullmatch('[0-9]{1,9}/[0-9]{1,9}', text):
    raise ValueError(
      f'Expected --shard=I/N; got --shard={text}; write, for instance, 0/4'
    )
  return int(index), int(count)


class _Output(io.TextIOWrapper):
  """Standard output that says in one line why it cannot be written."""

  def write(self, text: str) -> int:
    """Writes a text at once.

    Raises:
      ValueError: there is no room for it.
      SystemExit: nobody reads it any more, as `head` does.
    """
    try:
      size = super().write(text)
      self.flush()
    except OSError as error:
      # What is left would be tried again when the process ends.
      os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
      if isinstance(error, BrokenPipeError):
        raise SystemExit(128 + signal.SIGPIPE) from error
      raise ValueError(
        'Expected a standard output that can be written; got '
        f'{error.strerror}; free some space, and run the command again'
      ) from error
    return size
