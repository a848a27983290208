"""A study: what a paper found, beside what this run found.

The config says which paper under `study`, all optional:

  claim         its sentence
  source        authors, venue, year and table
  metrics       of the table, names of a row of results such as 'seconds',
                'start_ssim' for that of a baseline, or 'l2', the norm of the
                error; PSNR and SSIM if not given
  paper         a list of {'at': {sweep key: value}, metric: figure}; a value
                that is a dict with a name is named by it. A point that is near
                the paper's and not it says so under 'note'.
  fits          a list of {'x': sweep key, 'y': metric, 'paper': exponent}:
                y ~ x^exponent over the points, other keys at their first value
  correlations  a list of {'x': metric, 'y': metric, 'paper': sign}, over cases
  columns       {title: a value a point}, figures from elsewhere

`study.md` in the workdir holds the table, and how far the two agree.
"""

from collections.abc import Mapping, Sequence
import math
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from giajax.report import markup
from giajax.report import prose
from giajax.results import collection

KEYS = (
  'claim',
  'source',
  'metrics',
  'paper',
  'fits',
  'correlations',
  'columns',
)
# Beside those of `prose.METRICS`.
_TITLES = {
  'start_ssim': 'SSIM of the start',
  'l2': 'error (l2)',
  'psnr_claimed': 'PSNR of the claimed (dB)',
  'ssim_claimed': 'SSIM of the claimed',
  'cw_ssim_claimed': 'CW-SSIM of the claimed',
  'seconds': 'seconds of attack',
  'gradient_share': 'gradient share',
  'gradient_similarity': 'gradient cosine',
  'gradient_similarity_first': 'gradient cosine of the first image',
}
_DIGITS = {'l2': 2, 'psnr_claimed': 2}
# A share of images: its median over cases is not that of all images.
_SHARES = ('exact',)


class Line(NamedTuple):
  """One point of the sweep."""

  at: Sequence[str]  # a value a swept key
  ours: Mapping[str, float]  # medians over the cases, of shares the means
  paper: Mapping[str, float]  # {} where the paper has no such point
  note: str  # how the paper's point differs


def has(run: collection.Run) -> bool:
  """Returns whether the run is a study."""
  return bool(run.meta['config'].get('study'))


def value(run: collection.Run, row: Mapping[str, Any], metric: str) -> float:
  """Returns a row's metric, NaN where it has none."""
  if metric == 'l2':
    mse = collection.number(row.get('mse'))
    return math.sqrt(mse * collection.array(run, row, 'x').size)
  name, _, of_baseline = metric.partition('_')
  if name in (row.get('baselines') or {}):
    return collection.baseline(row, name, of_baseline)
  return collection.number(row.get(metric))


def lines(run: collection.Run) -> list[Line]:
  """Returns the points of a study, in the order of the sweep."""
  study, keys = run.meta['config']['study'], collection.swept(run)
  found = []
  for rows in collection.points(run).values():
    sweep = rows[0].get('sweep') or {}
    entry = _entry(study.get('paper') or (), sweep)
    found.append(
      Line(
        [prose.plain(sweep.get(key)) for key in keys],
        {m: _typical(run, rows, m) for m in _metrics(study)},
        {k: v for k, v in entry.items() if k not in ('at', 'note')},
        str(entry.get('note', '')),
      )
    )
  return found


def sentences(run: collection.Run) -> list[str]:
  """Returns how far the run agrees with the paper."""
  study, found = run.meta['config']['study'], lines(run)
  told = [_agreement(found, m) for m in _metrics(study)]
  told += [_fit(run, **fit) for fit in study.get('fits') or ()]
  told += [_correlation(run, **c) for c in study.get('correlations') or ()]
  return [text for text in told if text]


def table(run: collection.Run) -> list[list[str]]:
  """Returns the table's rows as text, the first its titles."""
  study, found = run.meta['config']['study'], lines(run)
  extra = study.get('columns') or {}
  titles = [prose.axis_label(key) for key in collection.swept(run)]
  beside = [
    m for m in _metrics(study) if any(m in line.paper for line in found)
  ]
  for metric in _metrics(study):
    titles.append(_title(metric))
    titles += ['the paper'] * (metric in beside)
  rows = [[*titles, *extra]]
  for i, line in enumerate(found):
    row = list(line.at)
    for metric in _metrics(study):
      row.append(_figure(line.ours[metric], metric))
      if metric in beside:
        text = _figure(line.paper.get(metric, math.nan), metric)
        told = line.note and metric == beside[0]
        row.append(f'{text} ({line.note})' if told else text)
    rows.append(row + [prose.plain(values[i]) for values in extra.values()])
  return rows


def markdown(run: collection.Run) -> str:
  """Returns the study as a page of Markdown."""
  meta, study = run.meta, run.meta['config']['study']
  card = str(meta.get('card') or '').strip().splitlines() or ['A study']
  head, *body = (f'| {" | ".join(row)} |' for row in table(run))
  seconds = sum(collection.number(row.get('seconds')) for row in run.rows)
  versions = (meta.get('versions') or {}).items()
  parts = [
    f'# {card[0]}',
    *([f'The paper: {study["claim"]}'] if study.get('claim') else []),
    *([f'Source: {study["source"]}.'] if study.get('source') else []),
    '\n'.join([head, '|' + '-|' * (head.count('|') - 1), *body]),
    f'{_cases(run)} Baselines and every case are in `results.jsonl`.',
    '\n'.join(f'- {text}' for text in sentences(run)),
    f'`{meta.get("command", "")}`',
    f'{meta.get("device", "")}, {prose.significant(seconds)} s of attack; '
    + ', '.join(f'{name} {version}' for name, version in versions),
  ]
  return '\n\n'.join(part for part in parts if part) + '\n'


def section(run: collection.Run) -> list[markup.Html]:
  """Returns the study as elements of the report's page."""
  study, tag = run.meta['config']['study'], markup.tag
  head, *body = table(run)
  told = [study.get('claim'), study.get('source')]
  return [
    *(tag('p', text, class_='note') for text in told if text),
    tag(
      'table',
      tag('thead', tag('tr', *(tag('th', cell) for cell in head))),
      tag(
        'tbody',
        *(tag('tr', *(tag('td', cell) for cell in row)) for row in body),
      ),
    ),
    tag('ul', *(tag('li', text) for text in sentences(run))),
  ]


def _metrics(study: Mapping[str, Any]) -> list[str]:
  return list(study.get('metrics') or ('psnr', 'ssim'))


def _entry(
  paper: Sequence[Mapping[str, Any]], sweep: Mapping[str, Any]
) -> Mapping[str, Any]:
  """Returns the paper's entry of a point, {} where it has none."""

  def named(v):
    return v['name'] if isinstance(v, dict) and 'name' in v else v

  for entry in paper:
    if all(named(sweep.get(k)) == v for k, v in entry['at'].items()):
      return entry
  return {}


def _typical(run, rows, metric) -> float:
  values = [value(run, row, metric) for row in rows]
  return (
    float(np.mean(values)) if metric in _SHARES else collection.median(values)
  )


def _agreement(found: Sequence[Line], metric: str) -> str:
  pairs = [
    (line.ours[metric], line.paper[metric])
    for line in found
    if metric in line.paper and math.isfinite(line.ours[metric])
  ]
  if len(pairs) < 3:
    return ''
  ours, paper = np.array(pairs).T
  gap = float(np.median(ours - paper))
  size = (
    f'ours is {_figure(abs(gap), metric)} {"higher" if gap >= 0 else "lower"} '
    'in the median.'
  )
  if not np.ptp(ours) or not np.ptp(paper):  # there is no order to agree with
    return f'{_title(metric)}: over {len(pairs)} points, {size}'
  rank = scipy.stats.spearmanr(ours, paper).statistic
  return (
    f'{_title(metric)}: over {len(pairs)} points, ours and the paper’s rank '
    f'alike with Spearman’s rho {prose.figure(rank)}; {size}'
  )


def _fit(run: collection.Run, x: str, y: str, paper: float) -> str:
  """Fits y ~ x^a over the points that have all other keys at their first."""
  groups = list(collection.points(run).values())
  first = groups[0][0].get('sweep') or {}
  pairs = []
  for rows in groups:
    sweep = rows[0].get('sweep') or {}
    if all(sweep[k] == first[k] for k in sweep if k != x):
      pairs.append((float(sweep[x]), _typical(run, rows, y)))
  fit = scipy.stats.linregress(*np.log(np.array(pairs)).T)
  margin = fit.stderr * scipy.stats.t.ppf(0.975, len(pairs) - 2)
  return (
    f'{_title(y)} grows like {prose.axis_label(x)}^{fit.slope:.2f} (95 % '
    f'interval {fit.slope - margin:.2f} to {fit.slope + margin:.2f}, over '
    f'{len(pairs)} points); the paper’s bound like ^{paper:g}.'
  )


def _correlation(run: collection.Run, x: str, y: str, paper: str) -> str:
  pairs = [(value(run, r, x), value(run, r, y)) for r in run.rows]
  known = np.array([p for p in pairs if all(map(math.isfinite, p))])
  found = scipy.stats.spearmanr(*known.T)
  rank = prose.figure(found.statistic)
  return (
    f'Over {len(known)} cases, {_title(x)} and {_title(y)} correlate with '
    f'Spearman’s rho {rank} (p = {found.pvalue:.2g}); the paper expects it to '
    f'be {paper}.'
  )


def _cases(run: collection.Run) -> str:
  count = len(run.rows) // len(collection.points(run))
  images = len(collection.array(run, run.rows[0], 'y'))
  metrics = _metrics(run.meta['config']['study'])
  shares = [_title(m) for m in metrics if m in _SHARES]
  claimed = any(m.endswith('_claimed') for m in metrics)
  each = 'its claimed images' if claimed else f'{images} images'
  return (
    f'Medians over {count} case{"s" * (count > 1)} a point'
    f'{f", each the mean of {each}" if images > 1 else ""}'
    f'{f"; means of {prose.listing(shares)}" if shares else ""}.'
  )


def _title(metric: str) -> str:
  if metric in prose.METRICS:
    return prose.METRICS[metric].label
  return _TITLES.get(metric, metric)


def _figure(number: float, metric: str) -> str:
  if metric in prose.METRICS:
    return prose.score(metric, number)
  return prose.figure(number, _DIGITS.get(metric, 3))
