"""The environment variables of JAX, which it reads when it is imported."""

import importlib
import sys

from giajax import printable


def load_jax(program: str) -> None:
  """Imports JAX for a command, before anything that needs it.

  Args:
    program: how the line begins.

  Raises:
    SystemExit: a variable that JAX refuses, which is said in one line.
  """
  try:
    importlib.import_module('jax')
  except ValueError as error:
    line = (
      f'{program}: Expected environment variables that JAX takes; got {error}; '
      'correct them'
    )
    print(printable.line(line), file=sys.stderr)
    raise SystemExit(2) from error
