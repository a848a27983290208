"""Paths as users write them."""

import contextlib
import os
import pathlib

# What is left to whoever opens a path.
_OF_READERS = (FileNotFoundError, NotADirectoryError, PermissionError)


def expanded(path: str | os.PathLike, name: str) -> pathlib.Path:
  """Returns a path whose leading `~` is the home that it stands for.

  Args:
    path: the path; whether it exists is left to whoever opens it.
    name: the flag, argument or variable that it comes from, for the message.

  Raises:
    ValueError: the home of nobody, or a name that no file can have.
  """
  try:
    whole = pathlib.Path(path).expanduser()
    with contextlib.suppress(*_OF_READERS):
      os.lstat(whole)
  except (OSError, RuntimeError, ValueError) as error:
    reason = getattr(error, 'strerror', None) or error
    raise ValueError(
      f'Expected a path in {name}; got {str(path)!r} ({reason}); correct it'
    ) from error
  return whole
