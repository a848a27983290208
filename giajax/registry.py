"""Looking a name up in a family's table."""

from collections.abc import Collection, Mapping
import difflib
import functools
from typing import Any


def lookup(table: Mapping[str, Any], name: str, kind: str) -> Any:
  """Returns `table[name]`.

  Args:
    table: a family's table, from names to factories.
    name: the name to look up.
    kind: what the table holds, in the singular, for the message.

  Raises:
    ValueError: the table has no such name. The message lists those it has.
  """
  if isinstance(name, str) and name in table:
    return table[name]
  near = closest(name, table)
  advice = f'did you mean {near!r}?' if near else 'choose one of them'
  raise ValueError(
    f'Expected a known {kind} ({", ".join(sorted(table))}); '
    f'got {kind}={name!r}; {advice}'
  )


def closest(name: Any, names: Collection[str]) -> str | None:
  """Returns the name that was probably meant by `name`, or None."""
  return next(iter(difflib.get_close_matches(str(name), names, n=1)), None)


def summary(item: Any) -> str:
  """Returns the first sentence of the documentation of a row of a table.

  For a factory, this is the first line of its docstring. For a partial, it is
  that of the partial's function, followed by the bound arguments. A record of
  functions, whose own docstring is that of its class, has a `meaning`, such as
  a metric; otherwise, the line is that of the first function that has one.
  """
  if isinstance(item, functools.partial):
    bound = [*map(repr, item.args)]
    bound += [f'{k}={v!r}' for k, v in item.keywords.items()]
    return f'{summary(item.func)} [{", ".join(bound)}]'
  if isinstance(item, tuple) and hasattr(item, 'meaning'):
    return f'{item.meaning.rstrip(".").split(". ")[0]}.'
  if isinstance(item, tuple):
    return next(filter(None, map(summary, filter(callable, item))), '')
  return (item.__doc__ or '').strip().split('\n')[0]
