"""Joins the results of many workdirs into one table.

giajax collect DIR... [--out=FILE] [--page=FILE]

A DIR is the workdir of a run, or a folder with workdirs somewhere in it, and
may be a URL. For each point, a line is printed: the medians over its updates,
and the share of these that leak. An update that several workdirs have counts
once. The rows themselves go to --out, a .csv or a .parquet file.
"""

import csv
import pathlib

from giajax import files
from giajax import paths
from giajax import printable
from giajax.commands import flags
from giajax.engine import workdir
from giajax.engine.remote import views
from giajax.report import comparison
from giajax.results import gathered
from giajax.results import parquet
from giajax.results import wording

USAGE = 'giajax collect DIR...'
FLAGS = (
  flags.Flag('out', 'The .csv or .parquet file for all rows.'),
  flags.Flag('page', 'The .html file for a page that compares the points.'),
)
_NEEDED = 'config.json', 'results.jsonl'
_MOST = 50  # lines that are printed


def run(arguments: flags.Arguments) -> int:
  """Prints a line for each point and writes the rows."""
  values = arguments.values
  out = _path(values.out, '--out', ('.csv', '.parquet'))
  page = _path(values.page, '--page', ('.html',))
  with views.opened(arguments.words, 'DIR', _NEEDED) as places:
    found = gathered.gather(places.folders, places.name)
  points = gathered.points(found.rows)
  _print(found, points)
  if out:
    with workdir.writing(out.parent):
      _write(out, found)
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


def _print(found: gathered.Gathered, points: list[gathered.Point]) -> None:
  lines = [comparison.cells(point) for point in points[:_MOST]]
  if points:
    lines.insert(0, [*points[0].at, *comparison.TITLES])
  widths = [max(map(len, column)) for column in zip(*lines)]
  for line in lines:
    text = '  '.join(map(str.ljust, line, widths)).rstrip()
    print(printable.line(text))
  if len(points) > _MOST:
    print(f'and {len(points) - _MOST} more points; --out=FILE.csv has all')
  print(f'{wording.plural(len(found.rows), "update")} in all')
  if found.again:
    print(f'{found.again} more were in several workdirs and count once')
  if found.torn:
    print(f'{wording.plural(found.torn, "torn last line")} left out')
  for folder in found.unfinished:
    print(printable.line(f'not finished: {folder}; see giajax status'))


def _write(path: pathlib.Path, found: gathered.Gathered) -> None:
  if path.suffix == '.parquet':
    parquet.write(path, found.rows)
    return
  names = list(parquet.kinds(found.rows))
  with files.written(path) as made, open(made, 'w', newline='') as file:
    writer = csv.DictWriter(file, names)
    writer.writeheader()
    writer.writerows(found.rows)
