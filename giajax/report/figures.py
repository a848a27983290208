"""The report's figures, from the files of a workdir alone."""

from collections.abc import Sequence
import io
import pathlib
import textwrap
from typing import NamedTuple

import matplotlib
import matplotlib.figure
import numpy as np

from giajax import files
from giajax.metrics import METRICS
from giajax.report import gallery
from giajax.report import markup
from giajax.report import overview
from giajax.report import plots
from giajax.report import prose
from giajax.report import values
from giajax.results import collection
from giajax.results import columns
from giajax.results import study
from giajax.results import wording

_PANELS = 6  # the largest number of rows whose curves are drawn
_COLUMNS = 8  # images in reconstructions.png
_TITLE = 21  # letters over one of them


class Plot(NamedTuple):
  """A figure for the page."""

  svg: bytes
  alt: str


class Figures(NamedTuple):
  """What the page shows besides the images."""

  curves: Sequence[Plot]  # one per row; empty for closed-form attacks
  sweep: Sequence[Plot]  # one per metric or key; empty with a single point


def draw(
  run: collection.Run,
  samples: Sequence[collection.Sample],
  folder: pathlib.Path,
) -> Figures:
  """Writes `reconstructions.png`, `curves.png` and `sweep.png`.

  Args:
    run: the run.
    samples: the images to show; the curves of their rows are drawn.
    folder: where the files go; files of figures that no longer exist are
      removed.

  Returns:
    The same curves and plots for the page, one panel each.
  """
  folder.mkdir(parents=True, exist_ok=True)
  rows = {s.row['row']: s.row for s in samples}.values()
  traced = [r for r in rows if collection.array(run, r, 'trace').shape[-1] > 1]
  spread = np.linspace(0, len(traced) - 1, min(_PANELS, len(traced)))
  shown = [traced[i] for i in spread.round().astype(int)]
  curves = [(plots.curve, row, plots.curve_name(run, row)) for row in shown]
  sweep = []
  scored = all(map(columns.is_scored, run.rows))
  if overview.is_large(run) and scored:
    sweep = [
      (plots.marginal, key, f'PSNR over {wording.axis_label(key)}')
      for key in collection.swept(run)[:_PANELS]
    ]
  elif len(collection.points(run)) > 1 and scored:
    sweep = [
      (plots.sweep, name, f'{METRICS[name].title} over the sweep')
      for name in dict.fromkeys(('psnr', 'ssim', *study.drawn(run)))
    ]
  with matplotlib.rc_context(plots.RC):
    _write(reconstructions(run, samples), folder / 'reconstructions.png')
    for name, panels in (('curves.png', curves), ('sweep.png', sweep)):
      _write(_panels(run, panels) if panels else None, folder / name)
    return Figures(
      *([_plot(run, panel) for panel in panels] for panels in (curves, sweep))
    )


def reconstructions(
  run: collection.Run, samples: Sequence[collection.Sample]
) -> matplotlib.figure.Figure:
  """Returns originals over reconstructions: one image per column.

  Unknown originals have no line. Below are the guesses that were kept. A sweep
  shows one image per point; a single point shows its sample.
  """
  points = len(collection.points(run))
  if points > 1:
    samples = list({s.row['point']: s for s in reversed(samples)}.values())[
      ::-1
    ]
  samples = samples[:_COLUMNS]
  known = any(collection.has(run, s.row, 'x') for s in samples)
  pictures = {
    **({'x': 'original'} if known else {}),
    'x_hat': 'recovered',
    **gallery.guesses(run, samples),
  }
  titles = [
    textwrap.wrap(prose.point_label(run, s.row), _TITLE) for s in samples
  ]
  title = 0.13 + 0.12 * max(map(len, titles), default=0)
  height = 0.25 + title + 1.3 * len(pictures)
  figure = matplotlib.figure.Figure((1.3 * len(samples) + 0.35, height))
  grid = figure.subplots(
    *(len(pictures), len(samples)),
    squeeze=False,
    gridspec_kw={'wspace': 0.05, 'hspace': 0.05 if len(pictures) == 2 else 0.2},
  )
  figure.subplots_adjust(
    0.35 / figure.get_figwidth(), 0.28 / height, 0.99, 1 - title / height
  )
  for axes, label in zip(grid[:, 0], pictures.values()):
    axes.set_ylabel(label)
  for column, (row, i), lines in zip(grid.T, samples, titles):
    for axes, name in zip(column, pictures):
      axes.set(xticks=[], yticks=[])
      axes.spines[:].set_visible(False)
      if collection.has(run, row, name):
        image = collection.array(run, row, name)[i]
        is_row = values.are_rows(run)
        axes.imshow(
          markup.pixels(values.strip(image) if is_row else image),
          interpolation='nearest',
          aspect='auto' if is_row else 'equal',
        )
    column[0].set_title('\n'.join(lines), fontsize=7)
    if columns.is_scored(row):
      psnr = wording.figure(collection.array(run, row, 'psnr')[i], 1)
      column[1 if known else 0].set_xlabel(
        f'{psnr} dB', fontsize=7.5, labelpad=3
      )
  return figure


def _panels(
  run: collection.Run, panels: Sequence[tuple]
) -> matplotlib.figure.Figure:
  columns = min(3, len(panels))
  rows = -(-len(panels) // columns)
  figure = matplotlib.figure.Figure(
    (3.3 * columns, 2.4 * rows), layout='constrained'
  )
  grid = figure.subplots(rows, columns, squeeze=False).flat
  for axes, (paint, item, _) in zip(grid, panels):
    paint(axes, run, item)
  for axes in list(grid)[len(panels) :]:
    axes.set_axis_off()
  return figure


def _plot(run: collection.Run, panel: tuple) -> Plot:
  figure = _panels(run, [panel])
  stream = io.StringIO()
  figure.savefig(
    stream, format='svg', transparent=True, metadata={'Date': None}
  )
  return Plot(_themed(stream.getvalue()).encode(), panel[2])


def _themed(svg: str) -> str:
  light = ''.join(f'--c{c[1:]}:{c};' for c in plots.DARK)
  dark = ''.join(f'--c{c[1:]}:{d};' for c, d in plots.DARK.items())
  for color in plots.DARK:
    svg = svg.replace(color, f'var(--c{color[1:]})')
  style = (
    f'<style>:root{{{light}}}@media(prefers-color-scheme:dark)'
    f'{{:root{{{dark}}}}}</style>'
  )
  return svg.replace('<defs>', f'{style}<defs>', 1)


def _write(figure: matplotlib.figure.Figure | None, path: pathlib.Path) -> None:
  if figure is None:
    path.unlink(missing_ok=True)
  else:
    with files.written(path) as made:
      figure.savefig(made, format='png', dpi=160, facecolor='white')
