"""Tests of the table of metrics, and of giajax.metrics.scoring."""

import numpy as np
import pytest

from giajax.clients import CLIENTS
from giajax.metrics import base
from giajax.metrics import METRICS
from giajax.metrics import scoring
from giajax.models import MODELS
from giajax.tasks import TASKS

RNG = np.random.default_rng(0)
X = RNG.uniform(size=(3, 12, 12, 3)).astype(np.float32)
FACTS = {
  'x': X,
  'x_hat': X,
  'features': X.reshape(3, -1),
  'features_hat': X.reshape(3, -1),
  'rivals': [
    RNG.uniform(size=(2, 432)),
    np.zeros((0, 1)),
    X[:2].reshape(2, -1),
  ],
  'ssim_mean_image': np.full(3, 0.5, np.float32),
}


def _audited(size=12, clients=1):
  net = MODELS['mlp'](image_shape=(size, size, 3), num_classes=3, widths=(4,))
  return base.Audited(
    image_shape=(size, size, 3),
    net=net,
    viewer=lambda: net,
    task=TASKS['classification'](3),
    merge=lambda history: history[-1],
    client=CLIENTS['fedsgd'](net, TASKS['classification'](3)),
    clients=clients,
  )


DETECTOR = _audited()._replace(
  task=TASKS['detection'](3, image_shape=(32, 32, 3))
)


@pytest.mark.parametrize('name', METRICS)
def test_rows_say_all_that_a_table_needs(name):
  metric = METRICS[name]
  assert metric.name == name and metric.label and metric.meaning.endswith('.')
  assert f'{0.5:{metric.form}}'
  assert metric.about in ('guess', 'batch')
  assert metric.summary in ('median', 'mean')
  assert (metric.score is None) == (metric.prepare is not None)
  earlier = [*METRICS][: [*METRICS].index(name)]
  assert {*metric.needs} <= {*base.FACTS, *earlier}


@pytest.mark.parametrize('name', scoring.ALWAYS)
def test_a_score_is_one_number_per_image(name):
  metric = METRICS[name]
  values = scoring.scores(
    scoring.scorers({}, _audited()), FACTS, metric.about, 3
  )
  assert values[name].shape == (3,)
  assert np.isfinite(values[name]).any()


def test_equal_images_have_the_best_values():
  functions = scoring.scorers({}, _audited())
  values = scoring.scores(functions, FACTS, 'guess', 3)
  worse = {**FACTS, 'x_hat': 0 * X, 'features_hat': 0 * X.reshape(3, -1)}
  for name, other in scoring.scores(functions, worse, 'guess', 3).items():
    sign = 1 if METRICS[name].higher_is_better else -1
    known = ~np.isnan(values[name])
    assert np.all((sign * (values[name] - other))[known] > 0), name


def test_what_is_not_known_is_nan_and_not_an_error():
  functions = scoring.scorers({}, _audited())
  values = scoring.scores(functions, {'x': X, 'x_hat': X}, 'guess', 3)
  for name in ('fmse', 'iip', 'rdlv'):
    assert np.isnan(values[name]).all()
    assert np.isnan(METRICS[name].of_row(values[name])) or name == 'fmse'
  np.testing.assert_array_equal(values['psnr'], 100)
  np.testing.assert_array_equal(values['exact'], 1)


def test_images_without_a_value_are_left_out_of_partial_metrics_only():
  values = np.array([1.0, np.nan, 0.0])
  assert METRICS['iip'].of_row(values) == 0.5
  assert np.isnan(METRICS['psnr'].of_row(values))
  assert METRICS['gradient_share'].of_row(np.array([0.2, 0.8])) == 0.8
  assert METRICS['gradient_similarity_first'].of_row(values) == 1


def test_metrics_are_made_when_they_are_asked_for():
  asked = {'gradient_similarity': True, 'gradient_share': True, 'lpips': ''}
  asked['regions'] = {'content': True, 'boxes': False}
  functions = scoring.scorers(asked, _audited())
  more = {'gradient_similarity', 'gradient_similarity_first', 'gradient_share'}
  more |= {'psnr_in_content', 'ssim_in_content'}
  assert {*functions} == {*scoring.ALWAYS} | more
  assert [*functions] == [name for name in METRICS if name in functions]
  boxes = scoring.scorers({'regions': {'boxes': True}}, DETECTOR)
  assert {*boxes} - {*scoring.ALWAYS} == {'psnr_in_boxes', 'ssim_in_boxes'}
  assert [*scoring.scorers({}, _audited())] == [*scoring.ALWAYS]


@pytest.mark.parametrize(
  ('asked', 'audited', 'words'),
  [
    ({'lpips': 'no.npz'}, _audited(16), 'at least 31x31 .* got shape=.16, 16'),
    ({'lpips': 'no.npz'}, _audited(32), 'no.npz'),
    ({'gradient_share': True}, _audited(clients=2), 'cases.clients=2'),
    ({'gradient_share': True}, DETECTOR, 'the mean of its images'),
    ({'regions': {'boxes': True}}, _audited(), 'task=detection'),
    (
      {'lpips': 'no.npz', 'regions': {'content': True}},
      _audited(32),
      'no.npz',
    ),
    ({'gradient_similarity': True}, DETECTOR, 'the mean of its images'),
  ],
)
def test_what_cannot_be_scored_is_refused_before_an_attack(
  asked, audited, words
):
  with pytest.raises(ValueError, match=f'Expected .*{words}'):
    scoring.scorers(asked, audited)
