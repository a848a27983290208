"""Rebuilds the report of a finished run from its files, without a device.

giajax report WORKDIR [--redact]

The WORKDIR may be a URL.
"""

import functools

from giajax import printable
from giajax.commands import flags
from giajax.engine.remote import views
from giajax.report import report

USAGE = 'giajax report WORKDIR'
FLAGS = (flags.REDACT,)


def run(arguments: flags.Arguments) -> int:
  """Rebuilds a report and prints its path."""
  (workdir,) = arguments.words
  redact = arguments.values.redact or None
  page = views.reported(workdir, functools.partial(report.write, redact=redact))
  print(printable.line(page))
  return 0
