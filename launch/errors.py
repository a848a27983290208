"""What launch commands make of mistakes and of signals: one line."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import functools
import sys

from giajax import environment
from giajax import interrupts
from giajax import printable

from . import children

Main = Callable[[Sequence[str]], int]


def begin(after: str = 'continues') -> None:
  """Has signals answered, and JAX imported; the first thing a command does.

  Args:
    after: what the same command does after one that was asked to stop.
  """
  interrupts.watch('launch', after, children.end_all)
  environment.load_jax('launch')


def reported(main: Main) -> Main:
  """Returns a command whose deliberate errors are a line on stderr."""

  @functools.wraps(main)
  def run(argv: Sequence[str]) -> int:
    try:
      return main(argv)
    except ValueError as error:
      # Deliberate errors have this form; others are bugs and keep their trace.
      if not str(error).startswith('Expected'):
        raise
      print(printable.line(f'launch: {error}'), file=sys.stderr)
      return 2

  return run


@contextlib.contextmanager
def writing() -> Iterator[None]:
  """Turns what a disk refuses into one line.

  Raises:
    ValueError: --out cannot be written.
  """
  try:
    yield
  except OSError as error:
    raise ValueError(
      f'Expected an --out that can be written; got {error}; choose another'
    ) from error
