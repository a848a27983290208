"""What compares the points of many workdirs: a page, and lines of text."""

from collections.abc import Sequence

from giajax.report import document
from giajax.report import markup
from giajax.results import gathered
from giajax.results import wording

tag = markup.tag
_MOST, _LINES = 1000, 50  # points on the page, and in lines of text
_TITLE = 'giajax: results of several runs'


def page(found: gathered.Gathered, points: Sequence[gathered.Point]) -> str:
  """Returns a page of HTML, whose table is sorted by a click on its titles.

  Args:
    found: the rows.
    points: their sums.
  """
  order = sorted(points, key=lambda p: -p.psnr if p.psnr == p.psnr else 0.0)
  keys = list(points[0].at) if points else []
  shown = order[:_MOST]
  text = (
    f'{wording.plural(len(found.rows), "update")} at '
    f'{wording.plural(len(points), "point")}; medians over the updates of each.'
  )
  if len(shown) < len(points):
    text += f' The {len(shown)} of highest PSNR are listed.'
  head = [*map(wording.axis_label, keys), *TITLES]
  return document.document(
    _TITLE,
    tag('h1', _TITLE),
    tag('p', text, class_='note'),
    markup.table(head, [*map(cells, shown)]),
  )


def lines(
  found: gathered.Gathered, points: Sequence[gathered.Point]
) -> list[str]:
  """Returns a line for each point, and what was left out.

  Args:
    found: the rows.
    points: their sums.
  """
  table = [cells(point) for point in points[:_LINES]]
  if points:
    table.insert(0, [*points[0].at, *TITLES])
  widths = [max(map(len, column)) for column in zip(*table)]
  told = ['  '.join(map(str.ljust, line, widths)).rstrip() for line in table]
  if len(points) > _LINES:
    told.append(f'and {len(points) - _LINES} more points; --out=FILE has all')
  told.append(f'{wording.plural(len(found.rows), "update")} in all')
  if found.again:
    told.append(f'{found.again} more were in several workdirs and count once')
  if found.torn:
    told.append(f'{wording.plural(found.torn, "torn last line")} left out')
  return told + [
    f'not finished: {folder}; see giajax status' for folder in found.unfinished
  ]


TITLES = ('updates', 'PSNR (dB)', 'SSIM', 'leak', 'gravest verdict')


def cells(point: gathered.Point) -> list[str]:
  """Returns a point as the cells of a table, those of `TITLES` last."""
  return [
    *(wording.plain(value) for value in point.at.values()),
    str(point.updates),
    wording.figure(point.psnr, 1),
    wording.figure(point.ssim),
    wording.share(point.leaking),
    point.worst,
  ]
