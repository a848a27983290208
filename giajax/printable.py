"""Text from elsewhere, as it may be printed.

Names of tensors, files and classes, values of a config and messages of
libraries may hold what a terminal obeys, line ends that forge further lines,
marks that turn the order of letters round, and bytes that no encoding writes.
Python's escapes stand for all of them.
"""


def line(text: str) -> str:
  """Returns a text in one line of characters that only show themselves."""
  if text.isprintable():
    return text
  return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def page(text: str) -> str:
  """Returns a text of several lines, which may be indented by tabs."""
  rows = [row.split('\t') for row in text.split('\n')]
  return '\n'.join('\t'.join(map(line, parts)) for parts in rows)
