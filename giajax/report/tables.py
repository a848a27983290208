"""The report's numbers: the attack beside every baseline, then every case."""

from collections.abc import Mapping, Sequence
import math
from typing import Any, NamedTuple

from giajax.report import markup
from giajax.report import prose
from giajax.report import records

_STRIP = 170  # width of a strip of dots, in pixels
_BADGE = markup.tag('span', 'oracle', class_='badge')
_ORACLE = markup.join('PSNR of the best restart', _BADGE)


class Method(NamedTuple):
  """One way to an image, over the cases of one point."""

  name: markup.Html
  kind: str | None  # how its row looks
  psnr: Sequence[float]
  ssim: Sequence[float]


def methods(rows: Sequence[Mapping[str, Any]]) -> list[Method]:
  """Returns the attack, the run's baselines and the oracle, in that order."""
  names = dict.fromkeys(n for r in rows for n in r.get('baselines') or {})
  ordered = [n for n in prose.BASELINES if n in names]
  ordered += [n for n in names if n not in prose.BASELINES]
  return [
    Method(
      markup.join('Recovered by the attack'),
      'chosen',
      [records.number(r['psnr']) for r in rows],
      [records.number(r['ssim']) for r in rows],
    ),
    *(
      Method(
        markup.join(prose.BASELINES.get(name, name)),
        None,
        [records.baseline(r, name, 'psnr') for r in rows],
        [records.baseline(r, name, 'ssim') for r in rows],
      )
      for name in ordered
    ),
    Method(
      markup.join('Best restart, picked by ground truth', _BADGE),
      'oracle',
      [records.number(r.get('psnr_oracle')) for r in rows],
      [],
    ),
  ]


def summary(run: records.Run) -> markup.Html:
  """Returns the attack against its baselines, at each point of the sweep."""
  groups = list(records.points(run).values())
  if len(groups) == 1:
    return _comparison(methods(groups[0]))
  return _by_point(run, groups)


def cases(run: records.Run) -> markup.Html:
  """Returns a table of every row, one line each."""
  keys = records.swept(run)
  head = [
    *('case', *map(prose.axis_label, keys), 'verdict', 'PSNR (dB)', 'SSIM'),
    *('LPIPS', 'MSE', 'labels right', 'attacker’s score', 'finite restarts'),
    *('seconds', _ORACLE),
  ]
  body = []
  for row in run.rows:
    cells = [
      f'{row["case"]}',
      *(prose.plain((row.get('sweep') or {}).get(k)) for k in keys),
    ]
    cells += [f'{row["verdict"]}', prose.figure(row['psnr'])]
    cells += [prose.figure(row.get(k), 3) for k in ('ssim', 'lpips')]
    cells += [prose.significant(row.get('mse')), _share(row)]
    cells += [prose.significant(row.get('score')), _finite(row)]
    cells += [prose.figure(row.get(k), 1) for k in ('seconds', 'psnr_oracle')]
    body.append(_line('td', cells))
  return _table(_line('th', head), body)


def _comparison(entries: Sequence[Method]) -> markup.Html:
  known = [v for e in entries for v in e.psnr if math.isfinite(v)]
  low, high = (
    math.floor(min(known, default=0)),
    math.ceil(max(known, default=1)),
  )
  high = max(high, low + 1)
  head = ['', 'PSNR (dB)', 'SSIM', f'PSNR of the cases, {low} to {high} dB']
  body = [
    _line(
      'td',
      [
        entry.name,
        prose.figure(records.median(entry.psnr)),
        prose.figure(records.median(entry.ssim), 3),
        _strip(entry.psnr, low, high),
      ],
      entry.kind,
    )
    for entry in entries
  ]
  return _table(_line('th', head), body)


def _by_point(
  run: records.Run, groups: Sequence[Sequence[Mapping[str, Any]]]
) -> markup.Html:
  columns = {e.name: e.kind for rows in groups for e in methods(rows)}
  ordered = sorted(columns, key=lambda name: columns[name] == 'oracle')
  body = []
  for i, rows in enumerate(groups):
    label = prose.point_label(run, rows[0]) or f'point {i}'
    entries = {e.name: e for e in methods(rows)}
    pairs = [_pair(entries.get(name)) for name in ordered]
    body.append(_line('td', [label, *pairs]))
  return _table(_line('th', ['PSNR in dB / SSIM', *ordered]), body)


def _pair(entry: Method | None) -> markup.Html:
  psnr = prose.figure(records.median(entry.psnr if entry else []))
  if not entry or not entry.ssim:
    return markup.join(psnr)
  text = f'{psnr} / {prose.figure(records.median(entry.ssim))}'
  return markup.tag('span', text, class_=entry.kind)


def _strip(values: Sequence[float], low: float, high: float) -> markup.Html:
  middle = {'y1': 7, 'y2': 7}
  axis = markup.tag('line', x1=0, x2=_STRIP, **middle)
  dots = [
    markup.tag(
      'circle', cx=f'{(v - low) / (high - low) * _STRIP:.1f}', cy=7, r=3
    )
    for v in values
    if math.isfinite(v)
  ]
  return markup.tag(
    'svg', axis, *dots, width=_STRIP, height=14, aria_hidden='true'
  )


def _share(row: Mapping[str, Any]) -> str:
  value = records.number(row.get('label_accuracy'))
  return f'{value:.0%}' if math.isfinite(value) else '–'


def _finite(row: Mapping[str, Any]) -> str:
  return f'{row.get("finite_restarts", "–")} of {row.get("restarts", "–")}'


def _line(
  cell: str, cells: Sequence[str], kind: str | None = None
) -> markup.Html:
  return markup.tag('tr', *(markup.tag(cell, c) for c in cells), class_=kind)


def _table(head: markup.Html, body: Sequence[markup.Html]) -> markup.Html:
  table = markup.tag(
    'table', markup.tag('thead', head), markup.tag('tbody', *body)
  )
  return markup.tag('div', table, class_='scroll')
