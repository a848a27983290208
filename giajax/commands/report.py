"""Rebuilds the report of a workdir from its files, without a device.

giajax report WORKDIR
"""

from collections.abc import Sequence

from giajax.report import report


def run(argv: Sequence[str]) -> int:
  """Rebuilds the report that the argument behind `giajax report` names."""
  if len(argv) != 1:
    raise ValueError(
      f'Expected giajax report WORKDIR; got {len(argv)} arguments; name one'
    )
  try:
    print(report.write(argv[0]))
  except OSError as error:
    raise ValueError(
      f'Expected a workdir that can be written; got {argv[0]}: '
      f'{error.strerror}; free some space or copy it'
    ) from error
  return 0
