"""Kinds of values in JSON from a file, and a check of one.

A kind is one of

  a type        the value is of exactly this type; a float may be a whole number
  object        anything without NaN and infinities
  range(a, b)   a whole number in it
  (a, b)        one of several kinds
  [kind]        a list of values of a kind
  {str: kind}   a dict of any keys and values of a kind
  {'a': kind}   a dict with these keys and perhaps others; 'a?' may be absent
                or null
"""

from collections.abc import Iterator
import math
import reprlib
from typing import Any

_NULL = type(None)
NUMBER = (float, _NULL)  # null is not defined or not finite
NAMED = {str: str}


def check(value: Any, kind: Any, where: str, advice: str) -> None:
  """Raises ValueError for a value of another kind.

  Args:
    value: what JSON said.
    kind: see above.
    where: what the value is, for the message.
    advice: what to do, for the message.
  """
  for name, wanted, got in _misfits(value, kind, ''):
    under = f' under {name!r}' if name else ''
    raise ValueError(
      f'Expected {where} to hold {_word(wanted)}{under}; got '
      f'{reprlib.repr(got)}; {advice}'
    )


def _misfits(
  value: Any, kind: Any, name: str
) -> Iterator[tuple[str, Any, Any]]:
  """Yields the parts of a value that do not fit: name, kind and value."""
  if isinstance(kind, dict) and isinstance(value, dict):
    if str in kind:
      parts = {key: (part, kind[str]) for key, part in value.items()}
    else:
      parts = {
        key.rstrip('?'): (value.get(key.rstrip('?')), part)
        for key, part in kind.items()
        if not key.endswith('?') or value.get(key[:-1]) is not None
      }
    for key, (part, inner) in parts.items():
      yield from _misfits(part, inner, f'{name}.{key}' if name else key)
  elif isinstance(kind, list) and isinstance(value, list):
    for i, part in enumerate(value):
      yield from _misfits(part, kind[0], f'{name}[{i}]')
  elif not _fits(value, kind):
    yield name, kind, value


def _fits(value: Any, kind: Any) -> bool:
  if isinstance(kind, tuple):
    simple = type(value) in kind
    return simple or any(not any(_misfits(value, one, '')) for one in kind)
  if isinstance(kind, range):
    return type(value) is int and value in kind
  if kind is object:
    return _is_finite(value)
  return type(value) is kind or (kind is float and type(value) is int)


def _is_finite(value: Any) -> bool:
  if isinstance(value, dict | list):
    parts = value.values() if isinstance(value, dict) else value
    return all(map(_is_finite, parts))
  return not isinstance(value, float) or math.isfinite(value)


def _word(kind: Any) -> str:
  if isinstance(kind, tuple):
    return ' or '.join(map(_word, kind))
  if isinstance(kind, range):
    return f'int of at least {kind.start}'
  if isinstance(kind, dict | list):
    return type(kind).__name__
  words = {object: 'finite numbers', _NULL: 'null'}
  return words.get(kind) or kind.__name__
