"""Rebuilds the report of a finished run from its files, without a device.

giajax report WORKDIR
"""

from giajax.commands import flags
from giajax.report import report

USAGE = 'giajax report WORKDIR'
FLAGS = ()


def run(arguments: flags.Arguments) -> int:
  """Rebuilds a report and prints its path."""
  (workdir,) = arguments.words
  try:
    print(report.write(workdir))
  except OSError as error:
    raise ValueError(
      f'Expected a workdir that can be written; got {workdir}: '
      f'{error.strerror}; free some space or copy the workdir'
    ) from error
  return 0
