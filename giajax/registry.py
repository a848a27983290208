"""Looking a name up in a family's table."""

from collections.abc import Mapping
import difflib
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
  if name in table:
    return table[name]
  near = difflib.get_close_matches(str(name), table, n=1)
  hint = f'; did you mean {near[0]!r}?' if near else ''
  raise ValueError(
    f'Expected a known {kind} ({", ".join(sorted(table))}); '
    f'got {kind}={name!r}{hint or "; choose one of them"}'
  )


def summary(item: Any) -> str:
  """Returns the first line of a factory's or module's docstring."""
  return (item.__doc__ or '').strip().split('\n')[0]
