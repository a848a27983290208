"""A study: what a paper found, compared with what this run found.

The config says which paper under `study`, all optional:

  claim         its sentence
  source        authors, venue, year and table
  metrics       of the table: columns of numbers, such as 'psnr', a baseline's,
                such as 'start_ssim', or 'l2', the norm of the error; PSNR and
                SSIM if not given. Those of 'noise_gradient' and 'class_sample'
                are also compared case by case.
  paper         a list of {'at': {key: value}, metric: figure}, keys of the
                sweep or of the config; of a value that is a dict, the name is
                enough. A point that is only near the paper's says how it
                differs under 'note'.
  fits          a list of {'x': sweep key, 'y': metric, 'paper': exponent}:
                y ~ x^exponent over the points, other keys at their first value;
                none if x is not swept
  correlations  a list of {'x': metric, 'y': metric, 'paper': sign}, over cases
  columns       {title: a list of {'at': as above, 'value': figure or word}},
                from elsewhere

`study.md` in the workdir holds the table, and says how well the two agree.
"""

from collections.abc import Mapping, Sequence
import math
from typing import Any, NamedTuple

import numpy as np
import scipy  # which loads its parts where they are used

from giajax import registry
from giajax import require
from giajax.metrics import baselines
from giajax.metrics import confidence
from giajax.metrics import METRICS
from giajax.results import axes
from giajax.results import collection
from giajax.results import columns
from giajax.results import pointwise
from giajax.results import wording

_KINDS: dict[str, type] = {
  'claim': str,
  'source': str,
  'metrics': list,
  'paper': list,
  'fits': list,
  'correlations': list,
  'columns': dict,
}
KEYS = tuple(_KINDS)
_PAIRED = ('noise_gradient', 'class_sample')
_L2 = columns.Column('l2', float, 'norm of the error', 'error (l2)', '.2f')


class Line(NamedTuple):
  """One point of the sweep."""

  at: Sequence[str]  # one value per swept key, as the table writes it
  elsewhere: Mapping[str, Any]  # figures and words by title, {} for none
  ours: Mapping[str, float]  # medians over the cases, of shares the means
  paper: Mapping[str, float]  # {} where the paper has no such point
  note: str  # how the paper's point differs


def check(
  study: Mapping[str, Any],
  sweep: Mapping[str, Sequence[Any]],
  config: Mapping[str, Any],
) -> None:
  """Checks what a config says about a study, before a run that takes hours.

  Args:
    study: the config's entry; {} for none.
    sweep: the sweep of the config, values by dotted key.
    config: the config itself, some of whose keys are swept.

  Raises:
    ValueError: an unknown key or metric, or a value of another kind.
  """
  for key, value in study.items():
    kind = registry.lookup(_KINDS, key, 'key of study')
    good = isinstance(value, kind) or (
      kind is list and isinstance(value, tuple)
    )
    if not good:
      raise ValueError(
        f'Expected a {kind.__name__} for study.{key}; got {value!r}; see '
        'giajax.results.study'
      )
  for metric in study.get('metrics') or ():
    _check_metric(metric)
  for entry in study.get('paper') or ():
    _check_entry(entry, 'paper', {'at'})
    _check_at(entry, 'paper', sweep, config)
    _check_word(entry.get('note', ''), 'paper.note')
    for metric in entry.keys() - {'at', 'note'}:
      _check_metric(metric)
      _check_number(entry[metric], f'paper.{metric}')
  for entry in study.get('fits') or ():
    _check_entry(entry, 'fits', {'x', 'y', 'paper'}, exact=True)
    _check_setting(entry['x'], sweep, config)
    _check_metric(entry['y'])
    _check_number(entry['paper'], 'fits.paper')
    if entry['x'] in sweep:
      _check_powers(entry['x'], sweep[entry['x']])
  for entry in study.get('correlations') or ():
    _check_entry(entry, 'correlations', {'x', 'y', 'paper'}, exact=True)
    _check_metric(entry['x'])
    _check_metric(entry['y'])
    _check_word(entry['paper'], 'correlations.paper')
  for title, entries in (study.get('columns') or {}).items():
    where = f'columns[{title!r}]'
    if not isinstance(entries, list | tuple):
      raise ValueError(
        f'Expected a list for study.{where}; got {entries!r}; see '
        'giajax.results.study'
      )
    for entry in entries:
      _check_entry(entry, where, {'at', 'value'}, exact=True)
      _check_at(entry, where, sweep, config)


def check_run(run: collection.Run) -> None:
  """Checks that the rows of a study, if it is one, are those of its config.

  Raises:
    ValueError: a row of another point, or a study that `check` refuses.
  """
  if not has(run):
    return
  config = run.meta['config']
  sweep = axes.values(config.get('sweep') or {})
  check(config['study'], sweep, config)
  points = axes.count(config.get('sweep') or {})
  for row in run.rows:
    at = row['sweep']
    if (
      not 0 <= row['point'] < points
      or at.keys() != sweep.keys()
      or any(value not in sweep[key] for key, value in at.items())
    ):
      raise ValueError(
        f'Expected row {row["row"]} to be of a point of the sweep in '
        f'config.json; got {at!r}; run the experiment again'
      )


def has(run: collection.Run) -> bool:
  """Returns whether the run is a study."""
  return bool(run.meta['config'].get('study'))


def value(run: collection.Run, row: Mapping[str, Any], metric: str) -> float:
  """Returns a row's metric, NaN where it has none."""
  if metric == 'l2':
    mse = wording.number(row.get('mse'))
    if mse < 0:
      return math.nan
    return math.sqrt(mse * collection.array(run, row, 'x').size)
  baseline, of_baseline = _split(metric)
  if baseline:
    return collection.baseline(row, baseline, of_baseline)
  return wording.number(row.get(metric))


def drawn(run: collection.Run) -> list[str]:
  """Returns the metrics that the paper has figures of, as plots have them."""
  about = run.meta['config'].get('study') or {}
  told = {name for entry in about.get('paper') or () for name in entry}
  return [name for name in _metrics(about) if name in told & METRICS.keys()]


def paper(run: collection.Run, metric: str) -> list[float]:
  """Returns the paper's figure at each point, NaN where it has none."""
  config = run.meta['config']
  entries = (config.get('study') or {}).get('paper') or ()
  return [
    wording.number(
      pointwise.entry_of(entries, config, rows[0].get('sweep') or {}).get(
        metric
      )
    )
    for rows in collection.points(run).values()
  ]


def lines(run: collection.Run) -> list[Line]:
  """Returns the points of a study, in the order of the sweep."""
  config, keys = run.meta['config'], collection.swept(run)
  study, result = config['study'], []
  for rows in collection.points(run).values():
    sweep = rows[0].get('sweep') or {}
    entry = pointwise.entry_of(study.get('paper') or (), config, sweep)
    elsewhere = {
      title: pointwise.entry_of(entries, config, sweep).get('value')
      for title, entries in (study.get('columns') or {}).items()
    }
    result.append(
      Line(
        [wording.plain(sweep.get(key)) for key in keys],
        elsewhere,
        {m: _typical(run, rows, m) for m in _metrics(study)},
        {k: v for k, v in entry.items() if k not in ('at', 'note')},
        str(entry.get('note', '')),
      )
    )
  return result


def sentences(run: collection.Run) -> list[str]:
  """Returns how well the run agrees with the paper."""
  study, points = run.meta['config']['study'], lines(run)
  said = [_agreement(points, m) for m in _metrics(study)]
  said += [s for m in _metrics(study) for s in _gains(run, m)]
  said += [_fit(run, **fit) for fit in study.get('fits') or ()]
  said += [_correlation(run, **c) for c in study.get('correlations') or ()]
  return [sentence for sentence in said if sentence]


def table(run: collection.Run) -> list[list[str]]:
  """Returns the table's rows as text, the first its titles."""
  study, points = run.meta['config']['study'], lines(run)
  extra = study.get('columns') or {}
  titles = [wording.axis_label(key) for key in collection.swept(run)]
  beside = [
    m for m in _metrics(study) if any(m in line.paper for line in points)
  ]
  for metric in _metrics(study):
    titles.append(_column(metric).label)
    titles += ['the paper'] * (metric in beside)
  rows = [[*titles, *extra]]
  for line in points:
    row = list(line.at)
    for metric in _metrics(study):
      row.append(_figure(line.ours[metric], metric))
      if metric in beside:
        figure = _figure(line.paper.get(metric, math.nan), metric)
        noted = line.note and metric == beside[0]
        row.append(f'{figure} ({line.note})' if noted else figure)
    for value in line.elsewhere.values():
      row.append('–' if value is None else wording.plain(value))
    rows.append(row)
  return rows


def markdown(run: collection.Run) -> str:
  """Returns the study as a page of Markdown."""
  meta, study = run.meta, run.meta['config']['study']
  card = str(meta.get('card') or '').strip().splitlines() or ['A study']
  head, *body = (f'| {" | ".join(row)} |' for row in table(run))
  seconds = sum(
    wording.number(row.get('seconds_per_update')) for row in run.rows
  )
  versions = (meta.get('versions') or {}).items()
  parts = [
    f'# {card[0]}',
    *([f'The paper: {study["claim"]}'] if study.get('claim') else []),
    *([f'Source: {study["source"]}.'] if study.get('source') else []),
    '\n'.join([head, '|' + '-|' * (head.count('|') - 1), *body]),
    f'{_cases(run)} Baselines and every case are in `results.jsonl`.',
    '\n'.join(f'- {sentence}' for sentence in sentences(run)),
    f'`{meta.get("command", "")}`',
    f'{meta.get("device", "")}, {seconds:,.{1 if seconds < 10 else 0}f} s of '
    'attack; ' + ', '.join(f'{name} {version}' for name, version in versions),
  ]
  return '\n\n'.join(part for part in parts if part) + '\n'


def _metrics(study: Mapping[str, Any]) -> list[str]:
  return list(study.get('metrics') or ('psnr', 'ssim'))


def _split(metric: str) -> tuple[str, str]:
  """Returns baseline and metric of 'start_ssim'; '' if there is no baseline."""
  for baseline in baselines.BASELINES:
    prefix = f'{baseline}_'
    if metric.startswith(prefix) and metric.removeprefix(prefix) in METRICS:
      return baseline, metric.removeprefix(prefix)
  return '', metric


def _column(metric: str) -> columns.Column:
  """Returns how a metric of a study is called and written.

  Raises:
    ValueError: the name is not a column of numbers, nor made of one.
  """
  if metric == 'l2':
    return _L2
  baseline, name = _split(metric)
  numbers = {n: c for n, c in columns.COLUMNS.items() if c.kind in (int, float)}
  column = registry.lookup(numbers, name, 'metric of a study')
  if not baseline:
    return column._replace(label=column.label or name)
  title = baselines.BASELINES[baseline]
  return column._replace(
    name=metric, label=f'{column.label}, {title[0].lower()}{title[1:]}'
  )


def _check_metric(metric: Any) -> None:
  _column(str(metric))


def _check_entry(entry, where, keys, *, exact=False) -> None:
  named = isinstance(entry, Mapping) and (
    entry.keys() == keys if exact else entry.keys() >= keys
  )
  if not named:
    raise ValueError(
      f'Expected entries of study.{where} with {", ".join(sorted(keys))}; got '
      f'{entry!r}; see giajax.results.study'
    )


def _check_at(entry, where, sweep, config) -> None:
  if not isinstance(entry['at'], Mapping):
    raise ValueError(
      f"Expected a dict of keys for study.{where}'s at; got "
      f'{entry["at"]!r}; see giajax.results.study'
    )
  for key in entry['at']:
    _check_setting(key, sweep, config)


def _check_setting(key: str, sweep, config) -> None:
  values = {
    name: several
    for name, several in sweep.items()
    if isinstance(several, list | tuple) and several
  }
  first = {name: several[0] for name, several in values.items()}
  tried = [
    {**first, name: value}
    for name, several in values.items()
    for value in several
  ]
  if all(
    pointwise.setting(config, point, key) is None for point in tried or [{}]
  ):
    registry.lookup(sweep, key, 'swept key')


def _check_number(value: Any, where: str) -> None:
  require.finite(value, f'study.{where}')


def _check_word(value: Any, where: str) -> None:
  if not isinstance(value, str):
    raise ValueError(
      f'Expected a string for study.{where}; got {value!r}; correct it'
    )


def _check_powers(name: str, values: Sequence[Any]) -> None:
  numbers = [v for v in values if type(v) in (int, float) and v > 0]
  if len({*numbers}) < 3 or len(numbers) < len(values):
    raise ValueError(
      f'Expected three different positive numbers or more in sweep[{name!r}], '
      f'to fit a power of them; got {values!r}; leave it out of study.fits'
    )


def _typical(run, rows, metric) -> float:
  values = [value(run, row, metric) for row in rows]
  if _column(metric).share:  # its median over cases is not that of all images
    return float(np.mean(values))
  return collection.median(values)


def _agreement(points: Sequence[Line], metric: str) -> str:
  pairs = [
    (line.ours[metric], line.paper[metric])
    for line in points
    if metric in line.paper and math.isfinite(line.ours[metric])
  ]
  if len(pairs) < 3:
    return ''
  title = _column(metric).label
  ours, paper = np.array(pairs).T
  gap = float(np.median(ours - paper))
  size = (
    f'ours is {_figure(abs(gap), metric)} {"higher" if gap >= 0 else "lower"} '
    'in the median.'
  )
  if not np.ptp(ours) or not np.ptp(paper):  # there is no order to agree with
    return f'{title}: over {len(pairs)} points, {size}'
  rank = scipy.stats.spearmanr(ours, paper).statistic
  return (
    f'{title}: over {len(pairs)} points, ours and the paper’s rank alike with '
    f'Spearman’s rho {wording.figure(rank)}; {size}'
  )


def _gains(run: collection.Run, metric: str) -> list[str]:
  """Returns how far a result is above a guess, case by case, at each point.

  Six cases or more, each with a guess of its own, have an interval.
  """
  baseline, name = _split(metric)
  if baseline not in _PAIRED:
    return []
  title = baselines.BASELINES[baseline]
  said = []
  for rows in collection.points(run).values():
    # A case without a control of its own is compared with another's.
    rows = [row for row in rows if collection.has(run, row, f'x_{baseline}')]
    gain = [value(run, row, name) - value(run, row, metric) for row in rows]
    low, high = confidence.interval(gain, statistic='mean')
    if not math.isfinite(low):
      continue
    sweep = rows[0].get('sweep') or {}
    at = ', '.join(
      f'{wording.axis_label(key)} = {wording.plain(sweep[key])}'
      for key in collection.swept(run)
    )
    mean, *ends = (_figure(x, name) for x in (float(np.mean(gain)), low, high))
    said.append(
      f'{_column(name).label} minus that of {title[0].lower()}{title[1:]}'
      f'{f", {at}" if at else ""}: {mean} in the mean over {len(gain)} cases, '
      f'95 % interval {ends[0]} to {ends[1]}.'
    )
  return said


def _fit(run: collection.Run, x: str, y: str, paper: float) -> str:
  """Fits y ~ x^a over the points that have all other keys at their first."""
  if x not in collection.swept(run):
    return ''
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
    f'{_column(y).label} grows like {wording.axis_label(x)}^{fit.slope:.2f} '
    f'(95 % interval {fit.slope - margin:.2f} to {fit.slope + margin:.2f}, '
    f'over {len(pairs)} points); the paper’s bound like ^{paper:g}.'
  )


def _correlation(run: collection.Run, x: str, y: str, paper: str) -> str:
  pairs = [(value(run, r, x), value(run, r, y)) for r in run.rows]
  finite = np.array([p for p in pairs if all(map(math.isfinite, p))])
  if len(finite) < 3:
    return ''
  rank = scipy.stats.spearmanr(*finite.T)
  return (
    f'Over {len(finite)} cases, {_column(x).label} and {_column(y).label} '
    f'correlate with Spearman’s rho {wording.figure(rank.statistic)} (p = '
    f'{rank.pvalue:.2g}); the paper expects it to be {paper}.'
  )


def _cases(run: collection.Run) -> str:
  count = len(run.rows) // len(collection.points(run))
  images = len(collection.array(run, run.rows[0], 'psnr'))
  metrics = _metrics(run.meta['config']['study'])
  shares = [_column(m).label for m in metrics if _column(m).share]
  claimed = any(m.endswith('_claimed') for m in metrics)
  each = 'its claimed images' if claimed else f'{images} images'
  return (
    f'Medians over {wording.plural(count, "case")} per point'
    f'{f", each the mean of {each}" if images > 1 else ""}'
    f'{f"; means of {wording.listing(shares)}" if shares else ""}.'
  )


def _figure(number: float, metric: str) -> str:
  return wording.formatted(number, _column(metric).form)
