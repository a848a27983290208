"""The files that decide a result: a changed one is another experiment.

A run is its config and the content of every file that it reads: weights,
images, and the user's own Python files that define a part of it. Installed
packages are not read; their versions are recorded.
"""

from collections.abc import Iterable, Iterator, Mapping
import functools
import hashlib
import inspect
import json
import logging
import os
import pathlib
import sys
import types
from typing import Any

import numpy as np

from giajax import archives
from giajax import trees
from giajax.data import base as data

# A data set of more files than this is named by one checksum over all of them.
_LISTED = 64
_CHECKPOINT = ('_METADATA', '_CHECKPOINT_METADATA')  # files of Orbax's
_SILENT = 1e9  # bytes that are read without a line in the log
# Folders of installed packages, whichever environment or user they belong to.
_PACKAGES = frozenset({'site-packages', 'dist-packages'})
_STANDARD = pathlib.Path(os.__file__).resolve().parent
_GIAJAX = pathlib.Path(__file__).resolve().parents[1]
_log = logging.getLogger('giajax')


def inputs(config: Mapping[str, Any], rows: Iterable[Any]) -> dict[str, str]:
  """Returns the sha256 of every file beside images of a setting, by its path.

  Args:
    config: resolved; its values that name a file are read.
    rows: of the tables, factories or records of functions, that the setting
      may use.

  Raises:
    ValueError: a file cannot be read.
  """
  single = {*_named(config)}
  for row in rows:
    single |= {*_own_code(row)}
  return {str(path): _sha256(path) for path in sorted(single)}


def images(dataset: data.Dataset) -> dict[str, str]:
  """Returns the sha256 of the files of a data set, by path.

  Many files have one sum over all of them.

  Raises:
    ValueError: a file cannot be read.
  """
  files = sorted(dataset.files)
  size = sum(path.stat().st_size for path in files if path.is_file())
  if size > _SILENT:
    _log.info('reading %.0f GB of images to identify the run', size / 1e9)
  if len(files) <= _LISTED:
    return {str(path): _sha256(path) for path in files}
  folder = os.path.commonpath([path.parent for path in files])
  whole = hashlib.sha256()
  for path in files:
    # Its folder may be its class.
    name = os.fsencode(path.relative_to(folder))
    whole.update(name + f' {_sha256(path)}\n'.encode())
  return {f'{folder} ({len(files)} files)': whole.hexdigest()}


def facts(dataset: data.Dataset) -> dict[str, Any]:
  """Returns what names a data set wherever its files are."""
  whole = hashlib.sha256(dataset.labels.tobytes())
  for digest in sorted(images(dataset).values()):
    whole.update(digest.encode())
  return {
    'name': dataset.name,
    'image_shape': list(dataset.image_shape),
    'size': dataset.size,
    'sha256': whole.hexdigest(),
  }


def arrays(tree: Any) -> str:
  """Returns the sha256 of the names, shapes, types and values of arrays."""
  whole = hashlib.sha256()
  for name, leaf in sorted(trees.named_leaves(tree).items()):
    leaf = np.asarray(leaf)
    whole.update(f'{name} {leaf.dtype} {leaf.shape} '.encode())
    whole.update(leaf.tobytes())
  return whole.hexdigest()


def owner(meta: Mapping[str, Any]) -> str:
  """Returns what names a run: of everything that decides its results.

  Args:
    meta: what `config.json` says.
  """
  named = {key: meta[key] for key in ('hash', 'inputs', 'precision')}
  text = json.dumps(named, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


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
          yield path.absolute()  # a link is what was named
        elif text and any((path / mark).is_file() for mark in _CHECKPOINT):
          inside = path.absolute().rglob('*')
          yield from sorted(file for file in inside if file.is_file())
      except (OSError, RuntimeError, ValueError):
        continue  # not a path: too long, an unknown user, a NUL


def _own_code(row: Any) -> Iterator[pathlib.Path]:
  """Yields the Python files of the user's own that a row is made of.

  They are followed along their imports: what is a function, a class or a module
  among the globals of a file leads to the file that defines it.
  """
  values, visited = [row], set()
  while values:
    value = values.pop()
    if isinstance(value, functools.partial):
      values += [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, tuple):
      values += value
    else:
      path, names = _home(value)
      if path is not None and path not in visited and _is_own(path):
        visited.add(path)
        yield path
        values += names.values()


def _home(value: Any) -> tuple[pathlib.Path | None, Mapping[str, Any]]:
  """Returns the file that defines a value, None for none, and its globals."""
  function = inspect.unwrap(value) if callable(value) else value
  if isinstance(function, types.FunctionType):
    path = pathlib.Path(function.__code__.co_filename)
    return path.resolve(), function.__globals__
  module = function
  if not isinstance(module, types.ModuleType):
    # That of a class, or of the class of an object.
    module = sys.modules.get(str(getattr(function, '__module__', None)))
  name = getattr(module, '__file__', None)
  if name is None:
    return None, {}
  return pathlib.Path(name).resolve(), vars(module)


def _is_own(path: pathlib.Path) -> bool:
  installed = path.is_relative_to(_STANDARD) or _PACKAGES & {*path.parts}
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
