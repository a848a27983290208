"""Paths as users write them."""

import contextlib
import os
import pathlib
import re

# What is left to whoever opens a path.
_OF_READERS = (FileNotFoundError, NotADirectoryError, PermissionError)
_URL = re.compile('[A-Za-z][A-Za-z0-9+.-]*://.*', re.DOTALL)


def is_url(place: str | os.PathLike) -> bool:
  """Returns whether a place is a URL, and no path."""
  return bool(_URL.fullmatch(os.fspath(place)))


def below(place: str | os.PathLike, name: str) -> str:
  """Returns where a file of a folder is, which may be a URL."""
  if is_url(place):
    return f'{os.fspath(place).rstrip("/")}/{name}'
  return str(pathlib.Path(place) / name)


def expanded(path: str | os.PathLike, name: str) -> pathlib.Path:
  """Returns a path whose leading `~` is the home that it stands for.

  Args:
    path: the path; whether it exists is left to whoever opens it.
    name: the flag, argument or variable that it comes from, for the message.

  Raises:
    ValueError: the home of nobody, or a name that no file can have; or a URL.
  """
  if is_url(path):
    raise ValueError(
      f'Expected a path in {name}; got the URL {os.fspath(path)}; copy it to '
      'this machine, or mount it (a run, giajax status, collect and report '
      'take URLs of workdirs)'
    )
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
