"""What the keys of a config are at a point of its sweep."""

from collections.abc import Mapping, Sequence
from typing import Any


def setting(config: Mapping[str, Any], sweep: Mapping[str, Any], key: str):
  """Returns what a dotted key is at a point, None where it is nothing."""
  node: Any = config
  for part in str(key).split('.'):
    node = node.get(part) if isinstance(node, Mapping) else None
  for name, value in sweep.items():  # later ones change earlier ones
    if key == name or key.startswith(f'{name}.'):
      node = setting({'at': value}, {}, f'at{key.removeprefix(name)}')
    elif name.startswith(f'{key}.') and isinstance(node, Mapping):
      node = _changed(node, name.removeprefix(f'{key}.').split('.'), value)
  return node


def _changed(node, path, value):
  first, *rest = path
  inner = node.get(first) if isinstance(node.get(first), Mapping) else {}
  return {**node, first: _changed(inner, rest, value) if rest else value}


def entry_of(
  entries: Sequence[Mapping[str, Any]],
  config: Mapping[str, Any],
  sweep: Mapping[str, Any],
) -> Mapping[str, Any]:
  """Returns the first entry that is of a point, {} where there is none."""

  def names(v):
    return [v, v['name']] if isinstance(v, dict) and 'name' in v else [v]

  for entry in entries:
    at = {key: setting(config, sweep, key) for key in entry['at']}
    if all(v in names(at[key]) for key, v in entry['at'].items()):
      return entry
  return {}
