"""Rows of a table in the report: their values, in the unit of the client."""

import numpy as np

from giajax.data import scale as scales
from giajax.report import markup
from giajax.results import collection
from giajax.results import wording

tag = markup.tag
_SHOWN = 24  # columns of a row


def are_rows(run: collection.Run) -> bool:
  """Returns whether a run attacked rows of a table, and not images."""
  shape = collection.array(run, run.rows[0], 'x_hat').shape
  return scales.is_row(shape[1:3])


def table(
  run: collection.Run, item: collection.Sample, pictures: dict[str, str]
) -> markup.Html:
  """Returns the values of a row beside what came back.

  Args:
    run: the run.
    item: which row of which update.
    pictures: the labels of the arrays to show, by their names.
  """
  found = run.meta.get('scale') or {}
  scale = None
  if found:
    low, high = tuple(found['low']), tuple(found['high'])
    scale = scales.Scale(low, high, tuple(found['names']))
  shown = {
    label: scales.from_unit(
      collection.array(run, item.row, name)[item.index, 0, 0], scale
    )
    for name, label in pictures.items()
  }
  count = len(next(iter(shown.values())))
  names = scale.names if scale and scale.names else None
  lines = [
    tag(
      'tr',
      tag('td', names[i] if names else f'column {i}'),
      *(tag('td', wording.significant(float(v[i]))) for v in shown.values()),
    )
    for i in range(min(count, _SHOWN))
  ]
  head = tag('tr', tag('th', ''), *(tag('th', label) for label in shown))
  body = tag('table', tag('thead', head), tag('tbody', *lines))
  rest = count - _SHOWN
  note = f'{rest} more columns are in recon.npz.' if rest > 0 else None
  return markup.join(
    tag('div', body, class_='scroll'),
    tag('span', note, class_='label') if note else None,
  )


def strip(row: np.ndarray) -> np.ndarray:
  """Returns a row [1, 1, F] as a picture [1, F, 1], a grey level a column."""
  return row.reshape(1, -1, 1)
