"""Files: what is opened at all, JSON with one meaning, and what is written."""

import collections
from collections.abc import Iterable, Iterator
import contextlib
import json
import os
import pathlib
import stat
import sys
from typing import Any, BinaryIO
import unicodedata

from giajax import interrupts

_LARGEST = 1 << 64  # of a whole number in JSON
_DEEPEST = 50  # lists and dicts within each other
_LONGEST = 256  # characters of the name of an array
_QUOTED = 40  # characters of a name that an error shows


def opened(path: str | os.PathLike) -> BinaryIO:
  """Returns a regular file, opened for reading.

  A pipe would wait for a writer, and a device may never end.

  Raises:
    OSError: the file does not exist or cannot be read.
    ValueError: it is a folder, a pipe or a device.
  """
  path = pathlib.Path(path)
  if not stat.S_ISREG(path.stat().st_mode):
    raise ValueError('not a regular file')
  return open(path, 'rb')


def read_text(path: str | os.PathLike, errors: str = 'strict') -> str:
  """Returns the text of a regular file.

  Args:
    path: the file.
    errors: what becomes of bytes that are not UTF-8, as for `bytes.decode`.

  Raises:
    OSError: see `opened`.
    ValueError: see `opened`; or the bytes are not UTF-8.
  """
  with opened(path) as file:
    return file.read().decode('utf-8', errors)


def check_folder(folder: str | os.PathLike) -> None:
  """Checks that a folder, which is no link, holds nothing unusual.

  Raises:
    OSError: it does not exist or cannot be read.
    ValueError: it is no folder, or holds more than folders and regular files.
  """
  folder = pathlib.Path(folder)
  if not stat.S_ISDIR(folder.lstat().st_mode):
    raise ValueError('not a folder')
  for path in folder.rglob('*'):
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
      raise ValueError(f'{path.name!a}, which is not a regular file')


def parsed(text: str | bytes, *, finite: bool = True) -> Any:
  """Returns what JSON says, if all readers agree on it.

  Args:
    text: the JSON.
    finite: whether NaN and infinities are refused.

  Raises:
    ValueError: it is not JSON, is nested too deeply, names a key twice, or
      holds numbers that not every program can.
  """

  def number(word: str) -> float:
    value = float(word)
    if finite and value - value:  # NaN for whatever is not finite
      raise ValueError(f'{word}, which is no finite number')
    return value

  try:
    value = json.loads(
      text,
      object_pairs_hook=_pairs,
      parse_int=_whole,
      parse_float=number,
      parse_constant=number,
    )
  except RecursionError as error:
    raise ValueError('JSON that is nested too deeply') from error
  _check_depth(value)
  return value


def check_names(names: Iterable[str]) -> None:
  """Checks the names of arrays: plain text, each of them once.

  Raises:
    ValueError: a name that does not print or is too long, or one that comes
      twice, be it in another Unicode form.
  """
  forms = set()
  for name in names:
    form = unicodedata.normalize('NFKC', name)
    quoted = ascii(name[:_QUOTED])
    if not name.isprintable():
      raise ValueError(f'the name {quoted}, which does not print')
    if len(name) > _LONGEST:
      raise ValueError(f'the name {quoted}... of {len(name)} characters')
    if form in forms:
      raise ValueError(f'the name {quoted} twice')
    forms.add(form)


@contextlib.contextmanager
def written(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Writes a file whole, or not at all and without a trace.

  Args:
    path: the file.

  Yields:
    The path to write to, which is renamed at the end of the `with`.

  Raises:
    OSError: it cannot be written.
  """
  made = partial(path)
  with interrupts.unfinished(made):
    yield made
    with open(made, 'rb') as file:
      os.fsync(file.fileno())
    os.replace(made, path)


def partial(path: pathlib.Path) -> pathlib.Path:
  """Returns the path that `written` writes to."""
  return path.with_name(f'.{path.name}.{os.getpid()}.partial')


def _check_depth(value: Any, depth: int = 0) -> None:
  """Checks that a value can be written again."""
  if depth > _DEEPEST:
    raise ValueError('JSON that is nested too deeply')
  if isinstance(value, dict | list):
    for part in (*value, *(value.values() if isinstance(value, dict) else ())):
      _check_depth(part, depth + 1)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  made = {sys.intern(key): value for key, value in pairs}  # rows share them
  if len(made) < len(pairs):
    counts = collections.Counter(key for key, _ in pairs)
    ((twice, _),) = counts.most_common(1)
    raise ValueError(f'the key {twice[:_QUOTED]!a} twice')
  return made


def _whole(word: str) -> int:
  value = int(word)
  if abs(value) > _LARGEST:
    raise ValueError(f'a number of {len(word)} digits')
  return value
