"""What a plot of the report shows: one panel, painted on given axes."""

from collections.abc import Mapping, Sequence
import math
import textwrap
from typing import Any, NamedTuple

import matplotlib.axes
import matplotlib.ticker
import numpy as np

from giajax.metrics import METRICS
from giajax.report import overview
from giajax.report import prose
from giajax.results import collection
from giajax.results import study
from giajax.results import wording

# Ink of the figures, each with what it becomes on a dark page.
INK, MUTED, LINE = '#22211d', '#77746a', '#c9c5b8'
ACCENT, COOL, FAIL = '#b3371f', '#2b6a8f', '#8a5a9e'
DARK = {
  INK: '#e8e4da',
  MUTED: '#a09c90',
  LINE: '#4c4a44',
  ACCENT: '#f08a6c',
  COOL: '#7db8da',
  FAIL: '#c79bd8',
}
_TICKS = 16  # characters of all tick labels that fit next to each other
_TICK = 24  # characters of one tick label
_TITLE = 38  # characters in a line over a curve
RC = {
  'font.family': 'sans-serif',
  'font.sans-serif': ['Helvetica Neue', 'Helvetica', 'Arial', 'DejaVu Sans'],
  'font.size': 8.5,
  'text.color': INK,
  'axes.labelcolor': INK,
  'axes.edgecolor': MUTED,
  'axes.linewidth': 0.6,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.titlesize': 8.5,
  'axes.titlelocation': 'left',
  'xtick.color': MUTED,
  'ytick.color': MUTED,
  'xtick.labelcolor': INK,
  'ytick.labelcolor': INK,
  'xtick.major.size': 3,
  'ytick.major.size': 3,
  'text.parse_math': False,
  'svg.fonttype': 'none',
  'svg.hashsalt': 'giajax',
}


def curve_name(run: collection.Run, row: Mapping[str, Any]) -> str:
  """Returns which row a curve is of: 'noise = 0.01, case 2'."""
  label = prose.point_label(run, row)
  case = f'case {row["case"]}'
  return f'{label}, {case}' if label else case.capitalize()


def curve(
  axes: matplotlib.axes.Axes, run: collection.Run, row: Mapping[str, Any]
) -> None:
  """Paints the attacker's objective along the steps, one line per restart."""
  trace, steps, finite, chosen = (
    collection.array(run, row, name)
    for name in ('trace', 'trace_step', 'finite', 'chosen')
  )
  trace = np.where(np.isfinite(trace), trace, np.nan)
  for r in np.flatnonzero(np.arange(len(trace)) != chosen):
    color, style = (LINE, '-') if finite[r] else (FAIL, ':')
    axes.plot(steps, trace[r], color=color, linestyle=style, lw=0.9)
  axes.plot(steps, trace[chosen], color=ACCENT, lw=1.6, zorder=3)
  _label_chosen(axes, steps, trace, int(chosen))
  if _logarithmic(trace):
    axes.set_yscale('log')
    axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(_power))
  axes.set_title('\n'.join(textwrap.wrap(curve_name(run, row), _TITLE)))
  axes.set_xlabel('step')
  axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4, integer=True))


def _label_chosen(
  axes: matplotlib.axes.Axes, steps: np.ndarray, trace: np.ndarray, chosen: int
) -> None:
  indices = np.flatnonzero(np.isfinite(trace[chosen]))
  if indices.size:
    last = trace[chosen][indices[-1]]
    axes.annotate(
      wording.significant(last),
      (steps[indices[-1]], last),
      xytext=(4, 0),
      textcoords='offset points',
      color=ACCENT,
      va='center',
      annotation_clip=False,
    )


def _logarithmic(values: np.ndarray) -> bool:
  finite = values[np.isfinite(values)]
  return bool(
    finite.size and finite.min() > 0 and finite.max() > 8 * finite.min()
  )


def _power(value: float, _: int) -> str:
  if 1e-3 <= abs(value) < 1e4:
    return f'{value:g}'
  exponent = round(math.log10(abs(value))) if value else 0
  return '10' + str(exponent).translate(
    str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹')
  )


class _Axis(NamedTuple):
  """Where the points of a sweep go."""

  name: str
  at: Sequence[float]  # one place per point
  series: Sequence[str]  # which line each point is on, '' if there is one
  ticks: Mapping[float, str]
  scale: str  # the axis scale of matplotlib


def sweep(axes: matplotlib.axes.Axes, run: collection.Run, metric: str) -> None:
  """Paints a metric over the sweep.

  Args:
    axes: what to paint on.
    run: the run; of a study, the paper's figures are painted as well.
    metric: the name of a metric, of which the cases, their median and the best
      baseline are painted.
  """
  groups = list(collection.points(run).values())
  axis = _axis(run, [rows[0] for rows in groups])
  medians = [collection.median(r.get(metric) for r in rows) for rows in groups]
  floors = [
    collection.median(collection.best_baseline(r, metric) for r in rows)
    for rows in groups
  ]
  paper = study.paper(run, metric)
  for x, rows in zip(axis.at, groups):
    dots = [wording.number(row.get(metric)) for row in rows]
    axes.plot([x] * len(dots), dots, 'o', color=ACCENT, ms=3.5, alpha=0.4)
  order = sorted(range(len(axis.at)), key=axis.at.__getitem__)
  lines = {
    name: [i for i in order if axis.series[i] == name]
    for name in dict.fromkeys(axis.series)
  }
  for line in lines.values():
    x, y, floor = ([v[i] for i in line] for v in (axis.at, medians, floors))
    axes.plot(x, y, color=ACCENT, lw=1.6)
    axes.plot(x, floor, color=COOL, lw=1, linestyle='--')
    told = [(axis.at[i], paper[i]) for i in line if math.isfinite(paper[i])]
    if told:
      axes.plot(*zip(*told), ':D', color=MUTED, lw=1, ms=3)
  ends = [
    (medians[line[-1]], name or 'recovered', ACCENT)
    for name, line in lines.items()
  ]
  last = lines[axis.series[-1]][-1]
  ends.append((floors[last], 'best baseline', COOL))
  if finite := [y for y in paper if math.isfinite(y)]:
    ends.append((finite[-1], 'the paper', MUTED))
  _label_ends(axes, ends)
  axes.set_title(METRICS[metric].title)
  axes.set_xlabel(axis.name)
  _scale_x(axes, axis.scale)
  if axis.ticks:
    names = list(axis.ticks.values())
    axes.set_xticks(list(axis.ticks), names, minor=False)
    if sum(map(len, names)) > _TICKS:
      axes.tick_params(axis='x', labelrotation=90, labelsize=6.5)
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())


def marginal(axes: matplotlib.axes.Axes, run: collection.Run, key: str) -> None:
  """Paints PSNR over one key of a large sweep, whatever the others are.

  Args:
    axes: what to paint on.
    run: the run.
    key: the key, for each value of which the median of all updates, the band of
      their middle half, and the best baseline are painted.
  """
  groups = overview.groups(run, key)
  values = [group.value for group in groups]
  scale = _scale(values)
  at = range(len(groups)) if scale == 'even' else [float(v) for v in values]
  psnr = [[wording.number(r.get('psnr')) for r in g.rows] for g in groups]
  floors = [
    collection.median(collection.best_baseline(r, 'psnr') for r in g.rows)
    for g in groups
  ]
  low, middle, high = np.transpose(
    [np.nanpercentile([*v, np.nan], (25, 50, 75)) for v in psnr]
  )
  axes.fill_between(at, low, high, color=ACCENT, alpha=0.2, lw=0)
  axes.plot(at, middle, color=ACCENT, lw=1.6)
  axes.plot(at, floors, color=COOL, lw=1, linestyle='--')
  ends = [
    (middle[-1], 'recovered', ACCENT),
    (floors[-1], 'best baseline', COOL),
  ]
  _label_ends(axes, ends)
  axes.set_title(METRICS['psnr'].title)
  axes.set_xlabel(wording.axis_label(key))
  _scale_x(axes, 'linear' if scale == 'even' else scale)
  if scale == 'even':
    names = [_short(value, values) for value in values]
    axes.set_xticks(at, names)
    if sum(map(len, names)) > _TICKS:
      axes.tick_params(axis='x', labelrotation=90, labelsize=6.5)


def _scale_x(axes: matplotlib.axes.Axes, scale: str) -> None:
  axes.set_xscale(scale)
  if scale == 'log':
    axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(_power))
    axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def _label_ends(
  axes: matplotlib.axes.Axes, ends: Sequence[tuple[float, str, str]]
) -> None:
  """Names the lines at the right edge, pushed apart where they meet."""
  low, high = axes.get_ylim()
  free = -math.inf
  for y, text, color in sorted(e for e in ends if math.isfinite(e[0])):
    free = max((y - low) / (high - low), free)
    axes.annotate(
      text,
      (1.01, free),
      xycoords='axes fraction',
      color=color,
      va='center',
      fontsize=7.5,
      annotation_clip=False,
    )
    free += 0.075


def _axis(run: collection.Run, rows: Sequence[Mapping[str, Any]]) -> _Axis:
  """Returns the axis: the key with the most values; the others name lines."""
  keys = collection.swept(run)
  sweeps = [row.get('sweep') or {} for row in rows]
  if not keys:
    return _Axis('point', range(len(rows)), [''] * len(rows), {}, 'linear')
  counts = {key: len({repr(s.get(key)) for s in sweeps}) for key in keys}
  key = max(keys, key=counts.__getitem__)
  values: list[Any] = [s.get(key) for s in sweeps]
  others = [k for k in keys if k != key] if counts[key] < len(rows) else []
  series = [
    ', '.join(
      f'{wording.axis_label(k)} {wording.plain(s.get(k))}' for k in others
    )
    for s in sweeps
  ]
  name, scale = wording.axis_label(key), _scale(values)
  if scale == 'even':
    ordered = values if _text(values) else sorted(values)
    order = [v for i, v in enumerate(ordered) if v not in ordered[:i]]
    ticks = {float(i): _short(v, order) for i, v in enumerate(order)}
    at = [float(order.index(v)) for v in values]
    return _Axis(name, at, series, ticks, 'linear')
  at = [float(v) for v in values]
  ticks = (
    {float(v): wording.plain(v) for v in values} if counts[key] < 9 else {}
  )
  return _Axis(name, at, series, ticks, scale)


def _short(value: Any, among: Sequence[Any]) -> str:
  """Returns the name of a part, with arguments if others share the name."""
  text = wording.plain(value)
  if isinstance(value, dict) and 'name' in value:
    names = [v.get('name') for v in among if isinstance(v, dict)]
    rest = [wording.plain(v) for k, v in value.items() if k != 'name']
    shared = names.count(value['name']) > 1
    name = wording.plain(value['name'])
    text = ' '.join([name, *rest]) if shared else name
  return text if len(text) <= _TICK else f'{text[: _TICK - 1]}…'


def _text(values: Sequence[Any]) -> bool:
  return not all(type(v) in (int, float) for v in values)


def _scale(values: Sequence[Any]) -> str:
  """Returns 'linear', 'log', or 'even' for words and for 0 next to 1e-3."""
  if _text(values):
    return 'even'
  positive = [v for v in values if v > 0]
  if not positive or max(positive) <= 8 * min(positive):
    return 'linear'
  return 'log' if len(positive) == len(values) else 'even'
