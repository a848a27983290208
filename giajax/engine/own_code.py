"""The user's own Python: config files, and rows that a config names by file."""

from collections.abc import Callable, Mapping
import functools
import hashlib
import importlib
import os
import pathlib
import re
import sys
import traceback
import types
from typing import Any

from giajax import paths
from giajax import registry
from giajax.engine import own_models
from giajax.engine import own_tasks

# What makes a factory of what a name stands for, by the kind of the row.
_FACTORIES: Mapping[str, Callable[[Any, str], Any]] = {
  'model': own_models.factory_of,
  'task': own_tasks.factory_of,
}
_USES = re.compile(rb'^\s*(?:import|from)\s+(torch|keras)\b', re.M)


def names(config: Any) -> list[str]:
  """Returns the names of the user's own rows in a config without a sweep."""
  if isinstance(config, Mapping):
    own = [n for n in [config.get('name')] if isinstance(n, str) and ':' in n]
    return own + [name for value in config.values() for name in names(value)]
  if isinstance(config, list | tuple):
    return [name for value in config for name in names(value)]
  return []


def modules(config: Any) -> list[types.ModuleType]:
  """Returns the modules that hold the user's own rows of a config.

  Args:
    config: resolved, without a sweep.

  Raises:
    ValueError: see `named`.
  """
  own = (n for n in names(config) if not n.startswith(f'{own_models.GIVEN}:'))
  return [_home(name, 'a row')[0] for name in own]


def executed(path: pathlib.Path, name: str, what: str) -> types.ModuleType:
  """Returns the module of a file of the user's.

  Args:
    path: the file.
    name: under which the module is known.
    what: what the file is, for messages.

  Raises:
    ValueError: it cannot be read, or something in it fails.
  """
  module = types.ModuleType(name)
  module.__file__ = str(path)
  sys.modules[name] = module  # classes of the file look it up
  source = path.read_bytes()
  if _USES.search(source):
    # A network at its top draws its weights when the file is run.
    with_failures_named(lambda: _imported_libraries(source), path, what)
  with own_models.seeded():
    with_failures_named(
      lambda: exec(compile(source, str(path), 'exec'), vars(module)), path, what
    )
  return module


def _imported_libraries(source: bytes) -> None:
  """Imports what a file imports of torch and Keras, before it is seeded."""
  for name in {m.decode() for m in _USES.findall(source)}:
    if name == 'torch':  # Keras reads its backend when it is imported
      importlib.import_module(name)


def with_failures_named(
  run: Callable[[], Any], path: pathlib.Path, what: str
) -> Any:
  """Returns what a function of a file returns.

  Args:
    run: the function.
    path: the file.
    what: what the file is, for messages.

  Raises:
    ValueError: the function failed; the line says where in the file.
  """
  try:
    return run()
  except BaseException as error:  # the file may raise anything
    if isinstance(error, ValueError) and str(error).startswith('Expected'):
      raise
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    reason = ' '.join([f'{_where(error, path)}:', *text.split()]).rstrip(':')
    advice = 'correct the file' if 'file' in what else 'correct it'
    if isinstance(error, ModuleNotFoundError):
      advice = f'install {error.name}, or correct the name'
    raise ValueError(
      f'Expected a {what} that runs; got {type(error).__name__} at {reason}; '
      f'{advice}'
    ) from error


def named(name: str, kind: str) -> Any:
  """Returns what 'FILE.py:NAME' or 'package.module:NAME' names, as a factory.

  Args:
    name: the name; a file is looked up from the current folder.
    kind: what it is to be, such as 'model', for messages.

  Raises:
    ValueError: no such file, module or name; or something in it that fails, or
      that is no factory.
  """
  if name.startswith(f'{own_models.GIVEN}:'):
    return own_models.of_given(name)
  module, home, attribute = _home(name, kind)
  found = getattr(module, attribute, None)
  if found is None:
    own = [
      n
      for n, value in vars(module).items()
      if getattr(value, '__module__', None) == module.__name__
    ]
    near = registry.closest(attribute, own)
    advice = f'did you mean {near!r}?' if near else 'correct the name'
    raise ValueError(
      f'Expected a name in {home} ({", ".join(sorted(own))}) for {kind}.name; '
      f'got {attribute!r}; {advice}'
    )
  factory = _FACTORIES.get(kind, lambda found, _: found)(found, attribute)
  if not callable(factory):
    raise ValueError(
      f'Expected a function or a class for {kind}.name={name!r}; got '
      f'{factory!r}; name another'
    )
  return factory


def called(name: str, make: Callable[[], Any]) -> Any:
  """Returns what a factory of the user's own makes.

  Args:
    name: the name of the row, as in `named`.
    make: calls it.

  Raises:
    ValueError: it failed; the line says where.
  """
  if name.startswith(f'{own_models.GIVEN}:'):
    return make()
  file = _home(name, 'a row')[0].__file__
  return with_failures_named(make, pathlib.Path(str(file)), 'row of your own')


def _home(name: str, kind: str) -> tuple[types.ModuleType, str, str]:
  """Returns the module of a name, and the name's two halves."""
  home, _, attribute = name.rpartition(':')
  if not home.endswith('.py'):
    return _imported(home, kind), home, attribute
  path = paths.expanded(home, f'{kind}.name').absolute()
  if not os.path.isfile(path):
    raise ValueError(
      f'Expected a Python file for {kind}.name; got {home!r}, which is not '
      'there; correct the path'
    )
  return _module(path, path.stat().st_mtime_ns), home, attribute


@functools.lru_cache(maxsize=16)
def _module(path: pathlib.Path, changed: int) -> types.ModuleType:
  """Runs a file once, and again if it has changed."""
  del changed
  folder = str(path.parent)  # what it imports may stand beside it
  if folder not in sys.path:
    sys.path.append(folder)
  # Files of one name in several folders are different modules.
  mark = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
  return executed(path, f'giajax_own_{path.stem}_{mark}', 'Python file')


def _imported(name: str, kind: str) -> types.ModuleType:
  if os.getcwd() not in sys.path:
    sys.path.append(os.getcwd())
  where = pathlib.Path(*name.split('.'))
  if not name.replace('.', '').isidentifier():
    raise ValueError(
      f'Expected FILE.py:NAME or package.module:NAME for {kind}.name; got '
      f'{name!r} before the colon; correct it'
    )
  return with_failures_named(
    lambda: importlib.import_module(name), where, 'Python module'
  )


def _where(error: BaseException, path: pathlib.Path) -> str:
  """Returns the user's file and line that an error comes from."""
  if isinstance(error, SyntaxError) and (error.filename or '<')[0] != '<':
    return f'{error.filename}:{error.lineno}'
  frames = traceback.extract_tb(error.__traceback__)
  lines = [frame.lineno for frame in frames if frame.filename == str(path)]
  return f'{path}:{lines[-1]}' if lines else str(path)
