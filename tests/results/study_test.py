"""Tests of giajax.results.study: tables and sentences from rows by hand."""

import math
import re

import numpy as np
import pytest

from giajax.report import markup
from giajax.report import study as section
from giajax.results import collection
from giajax.results import pointwise
from giajax.results import study


class Arrays(dict):
  """Stands for a lazily read archive."""

  @property
  def files(self):
    return list(self)


def run(
  about, values=((1, 20.0), (4, 16.0), (9, 12.0)), key='cases.batch_size'
):
  rows, arrays = [], Arrays()
  for point, (x, psnr) in enumerate(values):
    for case, shift in enumerate((-1.0, 0.0, 1.0)):
      number = len(rows)
      rows.append(
        {
          'row': number,
          'point': point,
          'case': case,
          'psnr': psnr + shift,
          'ssim': 0.5,
          'mse': 0.25,
          'verdict': 'leaks',
          'setting': 'diagnostic',
          'seconds_per_update': 2.0,
          'sweep': {key: x},
        }
      )
      size = x if isinstance(x, int) else 1
      arrays[f'{number:04d}/x'] = np.zeros((size, 2, 2, 1))
      arrays[f'{number:04d}/psnr'] = np.zeros(size)
  meta = {
    'config': {'study': about},
    'card': 'A table <of theirs>.\n\nMore.',
    'command': 'giajax --config=x',
    'device': 'cpu x2',
    'versions': {'jax': '1'},
  }
  return collection.Run(meta, rows, arrays)


PAPER = [
  {'at': {'cases.batch_size': 1}, 'psnr': 25.0},
  {'at': {'cases.batch_size': 4}, 'psnr': 19.0, 'note': 'B 8'},
  {'at': {'cases.batch_size': 9}, 'psnr': 13.0},
]


def test_medians_stand_beside_the_paper():
  found = study.table(run({'paper': PAPER, 'claim': 'c'}))
  assert found == [
    ['cases.batch_size', 'PSNR (dB)', 'the paper', 'SSIM'],
    ['1', '20.00', '25.00', '0.500'],
    ['4', '16.00', '19.00 (B 8)', '0.500'],
    ['9', '12.00', '13.00', '0.500'],
  ]


def test_a_figure_may_be_of_what_is_not_swept():
  """A key that the command line takes out of the sweep is still a setting."""
  paper = [
    {'at': {'cases.batch_size': 4, 'model.name': 'mlp'}, 'psnr': 1.0},
    {'at': {'cases.batch_size': 4, 'model': 'lenet'}, 'psnr': 2.0},
    {'at': {'cases.batch_size': 9, 'model.width': 3}, 'psnr': 3.0},
    {'at': {'cases.batch_size': 9, 'model.depth': 3}, 'psnr': 4.0},
  ]
  fit = {'x': 'model.width', 'y': 'psnr', 'paper': 1.0}
  made = run({'paper': paper, 'fits': [fit], 'metrics': ['psnr']})
  made.meta['config']['model'] = {'name': 'lenet', 'width': 3}
  assert [line[2] for line in study.table(made)[1:]] == ['–', '2.00', '3.00']
  assert study.sentences(made) == []
  # What is swept comes before what the config says.
  made = run({'paper': paper, 'metrics': ['psnr']}, key='model.width')
  made.meta['config'].update(model={'width': 3}, cases={'batch_size': 9})
  assert np.isnan(study.paper(made, 'psnr')).all()


@pytest.mark.parametrize(
  ('sweep', 'key', 'found'),
  [
    ({'model.name': 'lenet'}, 'model', {'name': 'lenet', 'width': 3}),
    ({'model': {'name': 'mlp'}}, 'model.name', 'mlp'),
    ({'model': {'name': 'mlp'}}, 'model.width', None),
    ({'model': {'name': 'mlp'}, 'model.width': 5}, 'model.width', 5),
    ({'model.width': 5}, 'cases.batch_size', 1),
  ],
)
def test_what_a_key_is_at_a_point(sweep, key, found):
  config = {'model': {'name': 'vgg', 'width': 3}, 'cases': {'batch_size': 1}}
  assert pointwise.setting(config, sweep, key) == found


def test_an_argument_of_one_row_of_several_is_a_setting():
  rows = [{'name': 'r'}, {'name': 'r', 'hide': 'weights'}]
  entry = {'at': {'attack.hide': 'weights'}, 'value': 1}
  study.check({'columns': {'a': [entry]}}, {'attack': rows}, CONFIG)


def test_shares_are_means_over_all_images():
  made = run({'metrics': ('exact', 'psnr'), 'paper': []})
  for row, share in zip(made.rows[:3], (0.0, 1.0, 0.5)):
    row['exact'] = share
  for row in made.rows[3:]:
    row['exact'] = float(row['case'] == 0)
  found = study.table(made)
  assert found[0] == ['cases.batch_size', 'exact', 'PSNR (dB)']
  assert [row[1] for row in found[1:]] == ['50.0%', '33.3%', '33.3%']
  assert 'means of exact' in study.markdown(made)


def test_agreement_of_ranks_and_size():
  (text,) = study.sentences(run({'paper': PAPER}))
  assert 'over 3 points' in text and 'rho 1.00' in text
  assert 'ours is 3.00 lower' in text
  turned = [{**p, 'psnr': -p['psnr']} for p in PAPER]
  assert 'rho −1.00' in study.sentences(run({'paper': turned}))[0]
  assert study.sentences(run({'paper': PAPER[:2]})) == []
  equal = [{**p, 'psnr': 16.0} for p in PAPER]
  assert study.sentences(run({'paper': equal})) == [
    'PSNR (dB): over 3 points, ours is 0.00 higher in the median.'
  ]


def test_named_parts_match_by_name():
  values = (({'name': 'same'}, 9.0), ({'name': 'fedavg', 'epochs': 2}, 8.0))
  paper = [{'at': {'belief': 'fedavg'}, 'psnr': 7.0}]
  first, second = study.lines(run({'paper': paper}, values, 'belief'))
  assert first.paper == {} and second.paper == {'psnr': 7.0}
  assert second.at == ['fedavg: epochs 2']


def test_a_power_law_is_fitted():
  """With one MSE in all rows, the norm of the error grows like B^(1/2)."""
  fit = {'x': 'cases.batch_size', 'y': 'l2', 'paper': 0.5}
  made = run({'fits': [fit]})
  rows = [made.rows[0], made.rows[4]]
  lengths = [study.value(made, row, 'l2') for row in rows]
  assert lengths == [math.sqrt(0.25 * 4), math.sqrt(0.25 * 16)]
  (text,) = study.sentences(made)
  assert 'batch_size^0.50' in text and 'like ^0.5' in text


def test_correlations_over_cases():
  about = {'correlations': [{'x': 'psnr', 'y': 'mse', 'paper': 'negative'}]}
  made = run(about)
  for row in made.rows:
    row['mse'] = 10 ** (-row['psnr'] / 10)
  (text,) = study.sentences(made)
  assert 'Over 9 cases' in text and 'rho −1.00' in text


def test_page_and_markdown_say_the_same():
  about = {
    'paper': PAPER,
    'claim': 'It <leaks>.',
    'columns': {
      'accuracy': [
        {'at': {'cases.batch_size': 9}, 'value': 0.125},
        {'at': {'cases.batch_size': 64}, 'value': 0.5},
      ]
    },
  }
  made = run(about)
  text = study.markdown(made)
  assert text.startswith('# A table <of theirs>.')
  assert '| 9 | 12.00 | 13.00 | 0.500 | 0.125 |' in text
  assert '0.5 |' not in text and text.count('| – |\n') == 2
  assert 'cpu x2, 18 s of attack; jax 1' in text
  html = markup.join(*section.section(made))
  assert 'It &lt;leaks&gt;.' in html and '<td>0.125</td>' in html


@pytest.mark.parametrize('config', [{}, {'study': {}}])
def test_other_runs_are_no_studies(config):
  assert not study.has(collection.Run({'config': config}, [], None))


SWEEP = {'cases.batch_size': (1, 4, 9), 'belief': ('same', 'fedavg')}
CONFIG = {'cases': {'batch_size': 1}, 'belief': {'name': 'same'}}


def test_a_whole_study_is_accepted_before_it_runs():
  study.check(
    {
      'claim': 'c',
      'source': 's',
      'metrics': ['psnr', 'start_ssim', 'l2', 'psnr_claimed'],
      'paper': PAPER,
      'fits': [{'x': 'cases.batch_size', 'y': 'l2', 'paper': 0.5}],
      'correlations': [{'x': 'gradient_similarity', 'y': 'psnr', 'paper': '-'}],
      'columns': {'accuracy': [{'at': {'belief': 'same'}, 'value': 0.1}]},
    },
    SWEEP,
    CONFIG,
  )
  study.check({}, {}, CONFIG)


@pytest.mark.parametrize(
  ('about', 'words'),
  [
    ({'papers': []}, "key of study='papers'; did you mean 'paper'"),
    ({'paper': 5}, 'a list for study.paper; got 5'),
    ({'claim': 5}, 'a str for study.claim'),
    ({'metrics': ['pnsr']}, "metric of a study='pnsr'; did you mean 'psnr'"),
    ({'metrics': ['verdict']}, "metric of a study='verdict'"),
    ({'paper': [{'psnr': 1.0}]}, 'study.paper with at'),
    ({'paper': [{'at': {'sede': 1}}]}, "swept key='sede'"),
    (
      {'paper': [{'at': {}, 'psnr': 'x'}]},
      'finite number for study.paper.psnr',
    ),
    ({'paper': [{'at': {}, 'psnr': 10**400}]}, 'number for study.paper.psnr'),
    ({'paper': [{'at': {}, 'note': 5}]}, 'a string for study.paper.note'),
    ({'fits': [{'x': 'belief', 'y': 'psnr'}]}, 'study.fits with paper, x, y'),
    (
      {'fits': [{'x': 'belief', 'y': 'psnr', 'paper': 1}]},
      'three different positive numbers',
    ),
    (
      {'fits': [{'x': 'seed', 'y': 'psnr', 'paper': 1}]},
      'three different positive numbers',
    ),
    (
      {'correlations': [{'x': 'psnr', 'y': 'mse', 'paper': 1}]},
      'a string for study.correlations.paper',
    ),
    ({'correlations': [{}]}, 'study.correlations with paper, x, y'),
    ({'columns': {'a': 5}}, "a list for study.columns['a']; got 5"),
    ({'columns': {'a': [5]}}, "study.columns['a'] with at, value; got 5"),
    (
      {'columns': {'a': [{'at': {'sede': 1}, 'value': 2}]}},
      "swept key='sede'",
    ),
    (
      {'columns': {'a': [{'at': 5, 'value': 2}]}},
      "a dict of keys for study.columns['a']'s at",
    ),
  ],
)
def test_mistakes_are_found_before_a_run(about, words):
  with pytest.raises(ValueError, match=f'^Expected .*{re.escape(words)}'):
    study.check(about, {**SWEEP, 'seed': (1, 1, 1)}, CONFIG)


def test_metrics_that_were_not_measured_do_not_correlate():
  about = {'correlations': [{'x': 'fmse', 'y': 'psnr', 'paper': 'positive'}]}
  assert not any('correlate' in s for s in study.sentences(run(about)))


def test_what_updates_add_to_noise_is_told_case_by_case():
  made = run({'metrics': ('psnr', 'noise_gradient_psnr')}, [(1, 20.0)] * 2)
  rows = [dict(row, case=i, sweep={}) for i, row in enumerate(made.rows)]
  for i, row in enumerate(rows):
    row.update(point=0, psnr=10.0 + i)
    row['baselines'] = {'noise_gradient': {'psnr': 8.5 + i}}
  made = made._replace(rows=rows)
  assert study.sentences(made) == []  # without controls of their own
  for row in rows:
    made.arrays[f'{row["row"]:04d}/x_noise_gradient'] = np.zeros((1, 2, 2, 1))
  (text,) = study.sentences(made)
  assert text == (
    'PSNR (dB) minus that of the same attack on a noise gradient: 1.50 in the '
    'mean over 6 cases, 95 % interval 1.50 to 1.50.'
  )
  few = made._replace(rows=rows[:5])  # too few for an interval
  assert study.sentences(few) == []


def test_titles_of_baselines():
  made = run({'metrics': ('start_psnr',)})
  for row in made.rows:
    row['baselines'] = {'start': {'psnr': 7.0}}
  head, *body = study.table(made)
  assert head == ['cases.batch_size', 'PSNR (dB), where the attack started']
  assert [line[1] for line in body] == ['7.00'] * 3
