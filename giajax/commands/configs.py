"""The config that `--config=NAME` and `--config.KEY=VALUE` describe."""

import ast
from collections.abc import Mapping, Sequence
import inspect
import logging
import os
import pathlib
import re
from typing import Any

import ml_collections

from giajax import files
from giajax import paths
from giajax import registry
from giajax.commands import flags
from giajax.commands import literals
from giajax.engine import own_code
from giajax.engine import schema
from giajax.engine import tables
from giajax.results import axes

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
# An installed package holds them; in a checkout they are next to it.
_FOLDERS = (_PACKAGE / 'configs', _PACKAGE.parent / 'configs')
_COMMAND = re.compile(r'^[ \t]+(?:giajax|python -m) (?:.*\\\n)*.*\n?', re.M)
_log = logging.getLogger('giajax')


def load(arguments: flags.Arguments) -> dict[str, Any]:
  """Returns the config of a command line, with every override applied.

  Raises:
    ValueError: no such file, a file that fails, or an override that cannot be
      applied. Whether the keys exist and the values fit is checked by `build`.
  """
  name, colon, argument = arguments.values.config.partition(':')
  config = _run(_locate(name), [argument] if colon else [])
  return override(config, arguments.overrides)


def card(arguments: flags.Arguments) -> str:
  """Returns the docstring of the config file, '' if there is none.

  The commands in it are left out: the report shows the one that was actually
  run.
  """
  path = _locate(arguments.values.config.partition(':')[0])
  doc = ast.get_docstring(ast.parse(path.read_bytes())) or ''
  return re.sub(r'\n{3,}', '\n\n', _COMMAND.sub('', f'{doc}\n')).strip()


def copied(name: str, target: str) -> pathlib.Path:
  """Copies a config of giajax's own to a new file, and returns its path.

  Args:
    name: the name of the config.
    target: the new file.

  Raises:
    ValueError: a file that exists, of another kind, or in a place that cannot
      be written.
  """
  path = paths.expanded(target, 'FILE')
  if path.suffix != '.py' or os.path.lexists(path):
    what = 'one that exists' if path.suffix == '.py' else 'another ending'
    raise ValueError(
      f'Expected the name of a new file that ends in .py; got {target!r}, '
      f'{what}; choose another'
    )
  text = _locate(name).read_text(encoding='utf-8')
  try:
    with files.written(path) as made:
      made.write_text(text.replace(f'--config={name}', f'--config={target}'))
  except OSError as error:
    raise ValueError(
      f'Expected a place that can be written; got {target!r} '
      f'({error.strerror}); choose another'
    ) from error
  return path


def override(
  config: Mapping[str, Any], overrides: Mapping[str, str]
) -> dict[str, Any]:
  """Returns a config as plain dicts, with other values at some keys.

  A new name of a family's entry selects another row, and the arguments that the
  config file gives to the old row are dropped. A key that the config sweeps is
  taken out of the sweep. Both are logged.

  Args:
    config: a config, as a config file returns it.
    overrides: a mapping from dotted keys, such as 'attack.num_steps', to texts.

  Raises:
    ValueError: a key below something that is not a dict, or below a key that is
      swept as a whole.
  """
  result = schema.plain(config)
  # Whole entries first, then names, and their arguments last.
  order = sorted(overrides, key=lambda k: (k.count('.'), k[-5:] != '.name'))
  for key in order:
    section, _, rest = key.partition('.')
    # Swept keys have dots of their own.
    path = [section, rest] if section == 'sweep' and rest else key.split('.')
    value = literals.value(overrides[key], _annotation(path, result))
    _leave_sweep(result, key)
    if section in tables.FAMILIES and rest == 'name':
      _leave_row(result, section, value)
    _set(result, path, value)
  return result


def _locate(name: str) -> pathlib.Path:
  path = paths.expanded(name, '--config')
  folder = next(filter(pathlib.Path.is_dir, _FOLDERS))
  if path.suffix != '.py':
    path = folder / f'{name}.py'
  if not os.path.isfile(path):  # no name is too long for it
    names = sorted(
      str(file.relative_to(folder).with_suffix(''))
      for file in folder.rglob('*.py')
      if file.name != '__init__.py'
    )
    near = registry.closest(name, names)
    advice = f'did you mean {near!r}?' if near else 'correct the name'
    raise ValueError(
      f'Expected a config file, or one of {", ".join(names)}; got '
      f'--config={name}; {advice}'
    )
  return path


def _run(path: pathlib.Path, arguments: Sequence[str]) -> Any:
  """Returns what `get_config` of a file returns."""
  module = own_code.executed(path, 'giajax_config', 'config file')
  config = own_code.with_failures_named(
    lambda: module.get_config(*arguments), path, 'config file'
  )
  if not isinstance(config, Mapping | ml_collections.ConfigDict):
    raise ValueError(
      f'Expected a config from get_config of {path}; got {config!r}; return '
      'one that build.default_config() makes'
    )
  return config


def _annotation(path: Sequence[str], config: Mapping[str, Any]) -> Any:
  """Returns the type of a key's value, Any if only `build` can know it."""
  section, *rest = path
  if section in tables.FAMILIES and len(rest) == 1:
    if rest == ['name']:
      return str
    entry = config.get(section, schema.DEFAULTS[section])
    name = entry.get('name') if isinstance(entry, Mapping) else None
    # One of the user's own is read by `build` alone.
    factory = tables.FAMILIES[section].get(str(name))
    parameters = inspect.signature(factory).parameters if factory else {}
    parameter = parameters.get(rest[0])
    if parameter is None or parameter.annotation is parameter.empty:
      return Any
    return parameter.annotation
  if section == 'sweep' and rest:
    return tuple | dict
  node: Any = schema.DEFAULTS
  for part in path:
    if not isinstance(node, Mapping) or part not in node:
      return Any
    node = node[part]
  return tuple | None if node is None else type(node) | None


def _leave_sweep(config: dict[str, Any], key: str) -> None:
  """Takes an overridden key out of the sweep."""
  sweep = config.get('sweep')
  if not isinstance(sweep, dict):
    return
  variants = sweep.get(axes.VARIANT)
  listed = variants if isinstance(variants, list) else []
  named = {n for v in listed if isinstance(v, dict) for n in v if n != 'name'}
  for group in (sweep.get(axes.ZIP), sweep.get(axes.RANDOM)):
    named |= {*(group if isinstance(group, dict) else ())} - {'count', 'seed'}
  for swept in [*sweep, *named]:
    if key == swept and swept in sweep:
      del sweep[swept]
      _log.info('--config.%s replaces the sweep over %s', key, swept)
    elif swept in named and f'{key}.'.startswith(f'{swept}.'):
      raise ValueError(
        'Expected a key that variants, zip and random leave alone; got '
        f'--config.{key}, which one of them sets; set --config.sweep'
      )
    elif key.startswith(f'{swept}.'):
      raise ValueError(
        f'Expected a key that the sweep leaves alone; got --config.{key} and a '
        f'sweep over {swept}; set --config.{swept} or --config.sweep'
      )


def _leave_row(config: dict[str, Any], section: str, name: Any) -> None:
  """Drops the entry of a family if it names another row."""
  entry = config.get(section)
  if isinstance(entry, dict) and entry.get('name') == name:
    return
  config[section] = {}
  bare = isinstance(entry, dict) and not {*entry} - {'name'}
  if entry is not None and not bare:
    _log.info(
      "--config.%s.name=%s replaces the config file's %s, %s",
      *(section, name, section, entry),
    )


def _set(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
  *parents, last = path
  node, default = tree, schema.DEFAULTS
  for part in parents:
    default = default.get(part, {}) if isinstance(default, Mapping) else {}
    fresh = dict(default) if isinstance(default, Mapping) else {}
    node = node.setdefault(part, fresh)
    if not isinstance(node, dict):
      raise ValueError(
        f'Expected a key of the config; got --config.{".".join(path)}, but '
        f'{part} is {node!r} and has no keys; correct it'
      )
  node[last] = value
