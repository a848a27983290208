"""Tests of giajax.report.plots: what is painted, from rows by hand."""

import matplotlib.figure
import numpy as np
import pytest

from giajax.report import plots
from giajax.results import collection
from giajax.results import study

_PAPER = (
  {'at': {'model.activation': 'sigmoid', 'cases.batch_size': 1}, 'ssim': 0.8},
  {'at': {'model.activation': 'sigmoid', 'cases.batch_size': 8}, 'ssim': 0.5},
  {'at': {'model.activation': 'relu', 'cases.batch_size': 1}, 'psnr': 9.0},
)


def _run(about):
  points = [(a, b) for a in ('sigmoid', 'relu') for b in (1, 4, 8)]
  rows = [
    {
      'row': i,
      'point': i,
      'case': 0,
      'sweep': {'model.activation': activation, 'cases.batch_size': batch},
      'psnr': 20.0 - i,
      'ssim': 0.9,
      'baselines': {'mean_image': {'psnr': 11.0, 'ssim': 0.1}},
    }
    for i, (activation, batch) in enumerate(points)
  ]
  return collection.Run({'config': {'study': about}}, rows, None)


def _diamonds(run, metric):
  axes = matplotlib.figure.Figure().subplots()
  plots.sweep(axes, run, metric)
  return [line for line in axes.lines if line.get_marker() == 'D'], axes


def test_figures_of_the_paper_are_where_their_points_are():
  (line,), axes = _diamonds(_run({'paper': _PAPER}), 'ssim')
  np.testing.assert_allclose(line.get_xydata(), [[1, 0.8], [8, 0.5]])
  assert 'the paper' in [text.get_text() for text in axes.texts]


@pytest.mark.parametrize('about', [{}, {'paper': _PAPER[:2]}])
def test_without_figures_nothing_is_said_of_a_paper(about):
  lines, axes = _diamonds(_run(about), 'psnr')
  assert not lines
  assert 'the paper' not in [text.get_text() for text in axes.texts]


def test_metrics_that_are_drawn_are_those_with_figures():
  about = {'paper': _PAPER, 'metrics': ['cw_ssim', 'ssim', 'psnr']}
  assert study.drawn(_run(about)) == ['ssim', 'psnr']
  assert study.drawn(_run({})) == []


def test_the_numbers_of_a_logarithmic_axis_are_text():
  figure = matplotlib.figure.Figure()
  axes = figure.subplots()
  axes.plot([1e-3, 1e-1], [1, 2])
  plots._scale_x(axes, 'log')
  figure.draw_without_rendering()
  texts = [tick.get_text() for tick in axes.get_xticklabels(which='both')]
  assert '0.01' in texts and not any('$' in text for text in texts)
