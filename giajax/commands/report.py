"""Rebuilds the report of a finished run from its files, without a device.

giajax report WORKDIR
"""

from giajax import printable
from giajax.commands import flags
from giajax.report import report

USAGE = 'giajax report WORKDIR'
FLAGS = ()


def run(arguments: flags.Arguments) -> int:
  """Rebuilds a report and prints its path."""
  (workdir,) = arguments.words
  print(printable.line(str(report.write(workdir))))
  return 0
