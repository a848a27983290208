"""The files that decide a result: a changed one is another experiment.

A run is its config and the content of every file that it reads: weights,
images, and the user's own Python files that define a part of it. Installed
packages are not read; their versions are recorded.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import functools
import hashlib
import inspect
import os
import pathlib
import sysconfig
import types
from typing import Any

from giajax import archives
from giajax.data import base as data

# A data set of more files than this is named by one checksum over all of them.
_LISTED = 64
_INSTALLED = tuple(
  pathlib.Path(sysconfig.get_path(name)).resolve()
  for name in ('stdlib', 'platstdlib', 'purelib', 'platlib')
)
_GIAJAX = pathlib.Path(__file__).resolve().parents[1]


def inputs(
  config: Mapping[str, Any],
  dataset: data.Dataset,
  factories: Iterable[Callable[..., Any]],
) -> dict[str, str]:
  """Returns the sha256 of every file that a setting reads, by its path.

  Args:
    config: the resolved config; files that its values name are read.
    dataset: the data set whose files are read.
    factories: the rows of the tables that the setting uses.

  Raises:
    ValueError: a file cannot be read.
  """
  single = {*_named(config)}
  for factory in factories:
    single |= {*_own_code(factory)}
  sums = {str(path): _sha256(path) for path in sorted(single)}
  files = sorted(dataset.files)
  if len(files) <= _LISTED:
    return sums | {str(path): _sha256(path) for path in files}
  whole = hashlib.sha256()
  for path in files:
    whole.update(f'{path.name} {_sha256(path)}\n'.encode(errors='replace'))
  folder = os.path.commonpath([path.parent for path in files])
  return sums | {f'{folder} ({len(files)} files)': whole.hexdigest()}


def check(
  before: Mapping[str, str], now: Mapping[str, str], folder: pathlib.Path
) -> None:
  """Raises ValueError if a workdir's files are not those of its first run."""
  for path in sorted({*before, *now}):
    if before.get(path) != now.get(path):
      how = 'another file than' if path in before and path in now else 'not'
      raise ValueError(
        f'Expected the files that {folder} was made with; got {path!r}, which '
        f'is {how} what it was; restore it, or choose another --workdir'
      )


def _named(value: Any) -> Iterator[pathlib.Path]:
  """Yields the files that the strings of a config name."""
  if isinstance(value, Mapping):
    for key, inner in value.items():
      if key != 'name':
        yield from _named(inner)
  elif isinstance(value, list):
    for inner in value:
      yield from _named(inner)
  elif isinstance(value, str):
    for text in (value, value.partition(':')[2]):  # 'image:FILE' is a start
      try:
        path = pathlib.Path(text).expanduser()
        if text and path.is_file():
          yield path.resolve()
      except (OSError, RuntimeError, ValueError):
        continue  # not a path: too long, an unknown user, a NUL


def _own_code(factory: Callable[..., Any]) -> Iterator[pathlib.Path]:
  """Yields the user's own Python files that a factory is made of."""
  while isinstance(factory, functools.partial):
    factory = factory.func
  functions, visited = [inspect.unwrap(factory)], set()
  while functions:
    function = functions.pop()
    code = getattr(function, '__code__', None)
    path = pathlib.Path(code.co_filename).resolve() if code else None
    if path is None or path in visited or not _is_own(path):
      continue
    visited.add(path)
    yield path
    functions += _reached(function.__globals__)


def _reached(names: Mapping[str, Any]) -> Iterator[Any]:
  """Yields a function of each module that a module's globals lead to."""
  for value in [*names.values()]:
    if isinstance(value, types.ModuleType):
      own = value.__dict__.values()
      yield from (f for f in own if isinstance(f, types.FunctionType))
    elif isinstance(value, types.FunctionType):
      yield value


def _is_own(path: pathlib.Path) -> bool:
  installed = any(path.is_relative_to(root) for root in _INSTALLED)
  return path.is_file() and not installed and not path.is_relative_to(_GIAJAX)


def _sha256(path: pathlib.Path) -> str:
  try:
    facts = path.stat()
    return _digest(path, facts.st_size, facts.st_mtime_ns)
  except OSError as error:
    raise ValueError(
      f'Expected a file that can be read; got {str(path)!r}: '
      f'{error.strerror}; correct the path'
    ) from error


@functools.cache
def _digest(path: pathlib.Path, size: int, changed: int) -> str:
  """Reads a file again only if its size or its time has changed."""
  del size, changed
  return archives.sha256(path)
