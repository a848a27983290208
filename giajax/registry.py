"""Looking a name up in a family's table."""

from collections.abc import Mapping
import difflib
import functools
from typing import Any


def lookup(table: Mapping[str, Any], name: str, kind: str) -> Any:
  """Returns `table[name]`.

  Args:
    table: a family's table, from name to factory.
    name: the name to look up.
    kind: what the table holds, in the singular, for the message.

  Raises:
    ValueError: the table has no such name. The message lists those it has.
  """
  if isinstance(name, str) and name in table:
    return table[name]
  near = difflib.get_close_matches(str(name), table, n=1)
  hint = f'; did you mean {near[0]!r}?' if near else ''
  raise ValueError(
    f'Expected a known {kind} ({", ".join(sorted(table))}); '
    f'got {kind}={name!r}{hint or "; choose one of them"}'
  )


def summary(item: Any) -> str:
  """Returns the first line of what documents a row of a table.

  That is a factory's docstring; for a partial its function's, with the bound
  arguments behind it; for a record of functions that of the first which has
  one, because a tuple's own docstring is its class's.
  """
  if isinstance(item, functools.partial):
    bound = [*map(repr, item.args)]
    bound += [f'{k}={v!r}' for k, v in item.keywords.items()]
    return f'{summary(item.func)} [{", ".join(bound)}]'
  if isinstance(item, tuple):
    return next(filter(None, map(summary, filter(callable, item))), '')
  return (item.__doc__ or '').strip().split('\n')[0]
