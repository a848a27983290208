"""Keeps equations, tables and command lines of docstrings as they stand.

An extension of griffe. The docstrings of giajax set such lines apart by an
empty line and two spaces, which Markdown would run together.
"""

import re

import griffe

# Lines of two spaces or more, after an empty line or at the very beginning.
_APART = re.compile(
  r'(?:(?<=\n\n)|(?<=\A))((?: {2,}\S.*\n)(?:(?: {2,}.*)?\n)*)'
)


class Layout(griffe.Extension):
  """Fences the lines that stand apart."""

  def on_object(self, *, obj, **kwargs):
    """Rewrites the docstring of an object once it was read."""
    del kwargs
    if obj.docstring is not None:
      obj.docstring.value = fenced(obj.docstring.value)


def fenced(text):
  """Returns a docstring with the lines that stand apart in fences."""

  def fence(match):
    lines = match[1].rstrip('\n')
    return f'```text\n{lines}\n```\n\n'

  return _APART.sub(fence, f'{text}\n').rstrip('\n')
