"""Joins the results of many workdirs into one table.

giajax collect DIR... [--out=FILE] [--page=FILE]

A DIR is the workdir of a run, or a folder with workdirs somewhere in it, and
may be a URL. For each point, a line is printed: the medians over its updates,
and the share of these that leak. An update that several workdirs have counts
once. The rows themselves go to --out, a .csv or a .parquet file.
"""

import pathlib

from giajax import paths
from giajax import printable
from giajax.commands import flags
from giajax.engine import workdir
from giajax.engine.remote import views
from giajax.report import comparison
from giajax.results import gathered

USAGE = 'giajax collect DIR...'
FLAGS = (
  flags.Flag('out', 'The .csv or .parquet file for all rows.'),
  flags.Flag('page', 'The .html file for a page that compares the points.'),
)
_NEEDED = 'config.json', 'results.jsonl'


def run(arguments: flags.Arguments) -> int:
  """Prints a line for each point and writes the rows."""
  values = arguments.values
  out = _path(values.out, '--out', ('.csv', '.parquet'))
  page = _path(values.page, '--page', ('.html',))
  with views.opened(arguments.words, 'DIR', _NEEDED) as places:
    found = gathered.gather(places.folders, places.name)
  points = gathered.points(found.rows)
  for line in comparison.lines(found, points):
    print(printable.line(places.text(line)))
  if out:
    with workdir.writing(out.parent):
      gathered.write(out, found.rows)
  if page:
    text = printable.page(comparison.page(found, points))
    workdir.write_text(page, text)
  return 0


def _path(
  name: str, flag: str, suffixes: tuple[str, ...]
) -> pathlib.Path | None:
  """Returns where a flag says to write to, None for nowhere."""
  if not name:
    return None
  path = paths.expanded(name, flag)
  if path.suffix not in suffixes:
    raise ValueError(
      f'Expected {flag} to end in {" or ".join(suffixes)}; got {name}; rename '
      'it'
    )
  return path
