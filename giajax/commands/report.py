"""Rebuilds the report of a finished run from its files, without a device.

giajax report WORKDIR [--redact]
"""

from giajax import printable
from giajax.commands import flags
from giajax.report import report

USAGE = 'giajax report WORKDIR'
FLAGS = (flags.REDACT,)


def run(arguments: flags.Arguments) -> int:
  """Rebuilds a report and prints its path."""
  (workdir,) = arguments.words
  page = report.write(workdir, redact=arguments.values.redact or None)
  print(printable.line(str(page)))
  return 0
