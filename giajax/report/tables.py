"""The report's numbers: the attack and every baseline, then every case."""

from collections.abc import Iterable, Mapping, Sequence
import math
from typing import Any, NamedTuple

import numpy as np

from giajax.metrics import baselines
from giajax.metrics import confidence
from giajax.metrics import METRICS
from giajax.metrics import success
from giajax.report import markup
from giajax.report import overview
from giajax.report import prose
from giajax.results import collection
from giajax.results import columns
from giajax.results import rows as result_rows
from giajax.results import wording

_STRIP = 130  # width of a strip of dots, in pixels
_BADGE = markup.tag('span', 'oracle', class_='badge')
_ORACLE = markup.join('PSNR of the best restart', _BADGE)
_LABELS = ('labels_recovered', 'labels_matched')


class Method(NamedTuple):
  """One way to an image, over the images of one point."""

  name: markup.Html
  kind: str | None  # how its row looks
  scores: Mapping[str, Sequence[float]]  # of the images, by metric


def methods(
  run: collection.Run, rows: Sequence[Mapping[str, Any]]
) -> list[Method]:
  """Returns the attack, the run's baselines and the oracle, in that order."""
  names = dict.fromkeys(n for r in rows for n in r.get('baselines') or {})
  ordered = [n for n in baselines.BASELINES if n in names]
  ordered += [n for n in names if n not in baselines.BASELINES]
  oracle = [wording.number(row.get('psnr_oracle')) for row in rows]
  return [
    Method(
      markup.join('Recovered by the attack'), 'chosen', _scores(run, rows, None)
    ),
    *(
      Method(
        markup.join(baselines.BASELINES.get(name, name)),
        None,
        _scores(run, rows, name),
      )
      for name in ordered
    ),
    Method(
      markup.join('Best restart, picked by ground truth', _BADGE),
      'oracle',
      {'psnr': oracle},  # of the cases
    ),
  ]


def shown(run: collection.Run) -> list[str]:
  """Returns the metrics that the tables show: those with a value somewhere."""
  return [
    metric
    for metric in METRICS
    if any(math.isfinite(wording.number(row.get(metric))) for row in run.rows)
  ]


def summary(run: collection.Run) -> markup.Html:
  """Returns the attack against its baselines, at each point of the sweep."""
  groups = list(collection.points(run).values())
  if len(groups) == 1:
    return _comparison(run, methods(run, groups[0]))
  if overview.is_large(run):
    return markup.join(
      _comparison(run, methods(run, run.rows)), overview.by_value(run)
    )
  return _by_point(run, groups)


def unscored(run: collection.Run) -> markup.Html:
  """Returns what is known about updates whose images nobody knows."""
  rows = run.rows[: result_rows.MANY]
  note = f'The first {len(rows)} of {len(run.rows)} updates.'
  keys = collection.swept(run)
  names = ('score_start', 'score', 'score_noise', 'agreement')
  head = [
    *('case', *map(wording.axis_label, keys), 'verdict'),
    'objective at the start',
    'objective at the end',
    *(columns.COLUMNS[name].label for name in names[2:]),
    'finite restarts',
  ]
  body = [
    [
      f'{row["case"]}',
      *(wording.plain((row.get('sweep') or {}).get(k)) for k in keys),
      f'{row["verdict"]}',
      *(wording.significant(row.get(name)) for name in names),
      _finite(row),
    ]
    for row in rows
  ]
  return markup.join(
    markup.tag('p', note, class_='note') if overview.is_large(run) else None,
    markup.table(head, body),
  )


def cases(
  run: collection.Run, rows: Sequence[Mapping[str, Any]]
) -> markup.Html:
  """Returns a table of some rows, one line each.

  Args:
    run: the run.
    rows: the rows.
  """
  keys, metrics = collection.swept(run), shown(run)
  head = [
    *('case', *map(wording.axis_label, keys), 'verdict'),
    *(METRICS[metric].title for metric in metrics),
    *(columns.COLUMNS[name].label for name in _LABELS),
    *('attacker’s score', 'finite restarts'),
    columns.COLUMNS['seconds_per_update'].label,
    _ORACLE,
  ]
  body = []
  for row in rows:
    cells = [
      f'{row["case"]}',
      *(wording.plain((row.get('sweep') or {}).get(k)) for k in keys),
      f'{row["verdict"]}',
      *(wording.score(metric, row.get(metric)) for metric in metrics),
      *_labels(row),
      *(wording.significant(row.get('score')), _finite(row)),
      wording.score('seconds_per_update', row.get('seconds_per_update')),
      wording.figure(row.get('psnr_oracle'), 1),
    ]
    body.append(cells)
  return markup.table(head, body)


def _scores(run, rows, baseline) -> dict[str, list[float]]:
  found: dict[str, list[float]] = {}
  for row in rows:
    for metric, own in collection.scores_of(run, row, baseline).items():
      found.setdefault(metric, []).extend(own)
  return found


def _comparison(run: collection.Run, entries: Sequence[Method]) -> markup.Html:
  finite = [v for e in entries for v in e.scores['psnr'] if math.isfinite(v)]
  low, high = (
    math.floor(min(finite, default=0)),
    math.ceil(max(finite, default=1)),
  )
  high = max(high, low + 1)
  metrics = _of_guesses(shown(run))
  head = [
    *('', *(METRICS[metric].title for metric in metrics)),
    f'≥ {success.LEAK_PSNR:g} dB',
    f'PSNR, {low} to {high} dB',
  ]
  body = []
  for entry in entries:
    psnr = entry.scores['psnr']
    cells = [_cell(metric, entry.scores.get(metric, ())) for metric in metrics]
    rate = success.success_rate(psnr, success.LEAK_PSNR)
    cells += [
      wording.share(None if entry.kind == 'oracle' else rate),
      _strip(psnr, low, high),
    ]
    name = markup.tag('div', entry.name, class_='name')
    body.append([name, *cells])
  return markup.table(head, body, [entry.kind for entry in entries])


def _cell(metric: str, scores: Sequence[float]) -> markup.Html:
  """Returns a metric's median, or a share, over its interval."""
  if METRICS[metric].partial:
    scores = [score for score in scores if not math.isnan(score)]
  finite = [score for score in scores if math.isfinite(score)]
  if METRICS[metric].summary == 'mean':
    middle = sum(finite) / len(finite) if finite else math.nan
  else:
    middle = collection.median(finite)
  return markup.join(wording.score(metric, middle), _below(metric, scores))


def _below(metric: str, scores: Sequence[float]) -> markup.Html | None:
  """Returns the text under a number: its interval, or what is missing."""
  ends = confidence.interval(scores, statistic=METRICS[metric].summary)
  lost = sum(not math.isfinite(score) for score in scores)
  if 0 < lost < len(scores):
    text = f'{lost} of {len(scores)} not finite'
  elif math.isfinite(ends.low):
    text = ' to '.join(wording.score(metric, end) for end in ends)
  else:
    return None
  return markup.tag('span', text, class_='label')


def _by_point(
  run: collection.Run, groups: Sequence[Sequence[Mapping[str, Any]]]
) -> markup.Html:
  compared = [methods(run, rows) for rows in groups]
  columns = {e.name: e.kind for entries in compared for e in entries}
  ordered = sorted(columns, key=lambda name: columns[name] == 'oracle')
  body = []
  for i, (rows, entries) in enumerate(zip(groups, compared)):
    label = prose.point_label(run, rows[0]) or f'point {i}'
    named = {e.name: e for e in entries}
    pairs = [_pair(named.get(name)) for name in ordered]
    body.append([label, *pairs])
  return markup.table(['PSNR in dB / SSIM', *ordered], body)


def _pair(entry: Method | None) -> markup.Html:
  """Returns two medians, and for the attack the interval of the first."""
  scores = entry.scores if entry else {}
  psnr = wording.figure(collection.median(scores.get('psnr', ())))
  if not entry or 'ssim' not in scores:
    return markup.join(psnr)
  text = f'{psnr} / {wording.figure(collection.median(scores["ssim"]))}'
  below = _below('psnr', scores['psnr']) if entry.kind == 'chosen' else None
  return markup.join(markup.tag('span', text, class_=entry.kind), below)


def _strip(values: Sequence[float], low: float, high: float) -> markup.Html:
  """Returns a dot for each value; of very many, one for each percentile."""
  middle = {'y1': 7, 'y2': 7}
  axis = markup.tag('line', x1=0, x2=_STRIP, **middle)
  finite = [v for v in values if math.isfinite(v)]
  if len(finite) > result_rows.MANY:
    finite = np.percentile(finite, range(101)).tolist()
  dots = [
    markup.tag(
      'circle', cx=f'{(v - low) / (high - low) * _STRIP:.1f}', cy=7, r=3
    )
    for v in finite
  ]
  return markup.tag(
    'svg', axis, *dots, width=_STRIP, height=14, aria_hidden='true'
  )


def _of_guesses(metrics: Iterable[str]) -> list[str]:
  return [name for name in metrics if METRICS[name].about == 'guess']


def _labels(row: Mapping[str, Any]) -> list[str]:
  """Returns the cells of the labels; what was granted was not recovered."""
  recovered, matched = (wording.score(n, row.get(n)) for n in _LABELS)
  return ['granted' if row.get('labels_granted') else recovered, matched]


def _finite(row: Mapping[str, Any]) -> str:
  return f'{row.get("finite_restarts", "–")} of {row.get("restarts", "–")}'
