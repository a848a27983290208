"""Calling a row of a family's table with the arguments of a config's entry."""

from collections.abc import Callable, Mapping
import inspect
from typing import Any

from giajax import registry
from giajax.engine import own_code
from giajax.engine import schema

Table = Mapping[str, Callable[..., Any]]


def make(
  table: Table, entry: Mapping[str, Any], kind: str, **parts: Any
) -> Any:
  """Calls the factory that an entry names.

  Args:
    table: the family's table.
    entry: a name in the table and keyword arguments of that row.
    kind: what the table holds, in the singular.
    **parts: arguments that the engine supplies, left out where the factory
      does not take them.

  Raises:
    ValueError: an argument is unknown, missing or of the wrong kind, or the
      name is unknown.
  """
  factory = row(table, entry, kind)
  parameters = inspect.signature(factory).parameters
  arguments = {name: v for name, v in entry.items() if name != 'name'}
  allowed = [name for name in parameters if name not in parts]
  for name, value in arguments.items():
    schema.require_known(name, allowed, f'{kind} ({entry["name"]})')
    annotation = parameters[name].annotation
    arguments[name] = schema.check_argument(value, annotation, f'{kind}.{name}')
  parts = {name: part for name, part in parts.items() if name in parameters}
  missing = [
    name
    for name, parameter in parameters.items()
    if parameter.default is parameter.empty
    and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    and name not in {**arguments, **parts}
  ]
  if missing:
    raise ValueError(
      f'Expected {kind}.{missing[0]} for {kind}={entry["name"]!r}; got only '
      f'{sorted(arguments)}; set it'
    )
  if ':' in entry['name']:
    return own_code.called(entry['name'], lambda: factory(**arguments, **parts))
  return factory(**arguments, **parts)


def row(
  table: Table, entry: Mapping[str, Any], kind: str
) -> Callable[..., Any]:
  """Returns the factory that an entry names.

  A name with a colon is one of the user's own, see `own_code.named`.

  Raises:
    ValueError: no name, or an unknown one.
  """
  if 'name' not in entry:
    raise ValueError(
      f'Expected {kind}.name; got {kind}={dict(entry)}; name one of '
      f'{", ".join(sorted(table))}'
    )
  name = schema.check_argument(entry['name'], str, f'{kind}.name')
  if ':' in name:
    return own_code.named(name, kind)
  return registry.lookup(table, name, kind)


def parameters(
  table: Table, entry: Mapping[str, Any], kind: str
) -> Mapping[str, inspect.Parameter]:
  """Returns the arguments that the factory of an entry takes, by name."""
  return inspect.signature(row(table, entry, kind)).parameters
