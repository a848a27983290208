"""Tests of scoring: what is chosen, what it is compared with."""

import jax
import numpy as np
import pytest
import tiny

from giajax import types
from giajax.attacks.parts import labels
from giajax.engine import build
from giajax.engine import evaluate
from giajax.engine import exchange
from giajax.engine.sources import simulated


@pytest.mark.parametrize(
  'scores, finite, chosen',
  [
    ((3, 1, 2), (1, 1, 1), 1),
    ((3, 1, 2), (1, 0, 1), 2),
    ((np.nan, 1, 2), (1, 1, 1), 1),
    ((-np.inf, 1, 2), (1, 1, 1), 1),
    ((np.nan, np.nan), (0, 0), 0),
  ],
)
def test_choice_is_the_attackers(scores, finite, chosen):
  finite = np.array(finite, bool)
  assert evaluate.choose(np.float32(scores), finite) == chosen


@pytest.fixture(scope='module')
def case():
  """Returns a setup with two images per batch, and an item."""
  resolved = build.resolve(tiny.config(cases__batch_size=2))
  setup = build.setup(resolved)
  return setup, simulated.item(setup, 0)


def _found(*images, scores=None):
  x = np.stack(images)
  y = np.zeros(x.shape[:2], np.int32)
  valid = np.ones(x.shape[:2], bool)
  scores = np.arange(len(x), dtype=np.float32) if scores is None else scores
  return types.Reconstruction(types.Batch(x, y), valid, np.float32(scores))


def _evaluated(setup, *attacked):
  return evaluate.evaluate(setup, evaluate.Attacked(*attacked), 0)


def test_order_is_repaired_and_the_oracle_stands_apart(case):
  setup, item = case
  x = item.batch.x
  grey = np.full_like(x, 0.5)
  found = _found(grey, x[::-1])
  row, arrays = _evaluated(
    setup, item, found, _found(grey, grey), np.ones(2, bool)
  )
  assert arrays['chosen'] == 0  # by score, though the other is perfect
  assert row['psnr'] < 20
  assert row['psnr_oracle'] > 60
  row, arrays = _evaluated(
    setup, item, found, _found(grey, grey), np.array([False, True])
  )
  np.testing.assert_array_equal(arrays['x_hat'], x)
  assert row['finite_restarts'] == 1
  row, further = evaluate.conclude(row, arrays, grey, setup.scorers)
  kept = dict(zip(row['baselines'], further['baselines']))
  for name, scores in row['baselines'].items():
    assert kept[name].shape == (len(scores), 2)  # of two images
    means = np.array([*scores.values()], float)
    np.testing.assert_allclose(kept[name].mean(1), means, 1e-5)
  assert row['verdict'] == 'leaks'
  assert {*row['baselines']} == {
    *('start', 'mean_image', 'other_image', 'noise_gradient'),
  }
  start, noise = (row['baselines'][n] for n in ('start', 'noise_gradient'))
  for metric in ('mse', 'psnr', 'ssim', 'cw_ssim', 'rdlv'):
    assert noise[metric] == pytest.approx(start[metric])
  assert start['fmse'] > 0 == row['fmse']
  # The control has no network scores; every photograph is alone in its class.
  assert np.isnan([noise['fmse'], noise['iip']]).all()
  assert np.isnan([row['iip'], row['iip_chance']]).all()


def test_a_control_has_the_metrics_of_the_experiment(case):
  setup, item = case
  setup = setup._replace(
    scorers={**setup.scorers, 'lpips': lambda x, x_hat: x_hat.mean((1, 2, 3))}
  )
  found = _found(item.batch.x)
  row, arrays = _evaluated(setup, item, found, found, np.ones(1, bool))
  dark = np.full_like(item.batch.x, 0.25)
  row, _ = evaluate.conclude(row, arrays, dark, setup.scorers)
  assert row['baselines']['noise_gradient']['lpips'] == pytest.approx(0.25)


def test_claimed_images_are_averaged_apart(case):
  setup, item = case
  found = _found(item.batch.x)

  def row(*valid):
    claims = found._replace(valid=np.array([valid]))
    return _evaluated(setup, item, claims, found, np.ones(1, bool))[0]

  one, none = row(False, True), row(False, False)
  assert one['claimed'] == 1 and one['psnr_claimed'] > 60 > one['psnr']
  assert one['ssim_claimed'] == pytest.approx(1)
  assert none['claimed'] == 0 and np.isnan(none['psnr_claimed'])
  assert one['labels_recovered'] <= 0.5 and np.isnan(none['labels_recovered'])


def test_failed_restarts_are_scored_as_failures(case):
  setup, item = case
  bad = np.full_like(item.batch.x, np.nan)
  row, arrays = _evaluated(
    setup, item, _found(bad), _found(item.batch.x), np.zeros(1, bool)
  )
  row, _ = evaluate.conclude(row, arrays, bad, setup.scorers)
  assert row['finite_restarts'] == 0
  assert np.isnan(row['psnr'])
  assert row['verdict'] == 'resists'


def test_whole_data_set_as_a_batch_has_no_images_left():
  resolved = build.resolve(tiny.config(cases__batch_size=16))
  setup = build.setup(resolved)
  item = simulated.item(setup, 0)
  found = _found(item.batch.x)
  row, _ = _evaluated(setup, item, found, found, np.ones(1, bool))
  assert [*row['baselines']] == ['start']


def _scored(setup, item, y, x=None, valid=True):
  x = np.full_like(item.batch.x, 0.5) if x is None else x
  claims = types.Reconstruction(
    types.Batch(x[None], np.asarray(y, np.int32)[None]),
    np.full((1, len(y)), valid),
    np.zeros(1, np.float32),
  )
  return _evaluated(setup, item, claims, claims, np.ones(1, bool))[0]


def test_labels_are_learned_whichever_image_they_stand_at():
  """The true multiset at the wrong images is 100 % of what was to learn."""
  changes = dict(labels='bias_corrected', cases__batch_size=16)
  resolved = build.resolve(tiny.config(**changes))
  setup = build.setup(resolved)
  item = simulated.item(setup, 0)
  y = item.batch.y
  row = _scored(setup, item, np.roll(y, 1), item.batch.x)
  assert row['labels_recovered'] == 1
  assert row['labels_matched'] == 0
  assert not row['labels_granted']  # though the level gives them
  assert 'labels' in setup.granted
  half = np.where(np.arange(16) < 8, y, (y[0] + 1) % 16)
  assert _scored(setup, item, half)['labels_recovered'] <= 9 / 16
  none = _scored(setup, item, np.full(16, -1))
  assert np.isnan([none['labels_recovered'], none['labels_matched']]).all()


def test_bias_corrected_labels_of_a_batch_are_all_recovered():
  changes = dict(labels='bias_corrected', cases__batch_size=16)
  resolved = build.resolve(tiny.config(**changes))
  setup = build.setup(resolved)
  item = simulated.item(setup, 0)
  (obs,) = exchange.player(setup)(item)
  rule = labels.RULES['bias_corrected'](setup.world)
  row = _scored(setup, item, rule.infer(jax.random.key(0), obs))
  assert row['labels_recovered'] == 1


@pytest.mark.parametrize('grant', ['labels', 'label_counts'])
def test_granted_labels_are_called_so(case, grant):
  setup, item = case
  attack = setup.attack._replace(needs=frozenset({grant}))
  given = setup._replace(attack=attack, granted=frozenset({grant}))
  assert _scored(given, item, item.batch.y)['labels_granted']
  withheld = given._replace(granted=frozenset())
  assert not _scored(withheld, item, item.batch.y)['labels_granted']


def test_an_update_of_zeros_is_no_resistance(case):
  setup, item = case
  grey = np.full_like(item.batch.x, 0.5)
  row, arrays = _evaluated(
    setup, item, _found(grey), _found(grey), np.ones(1, bool)
  )
  words = {
    reason: evaluate.conclude(
      {**row, 'degenerate': reason}, arrays, grey, setup.scorers
    )[0]
    for reason in ('', 'the update is zero')
  }
  assert words['']['verdict'] == 'resists'
  assert words['the update is zero']['verdict'] == 'untested'
  assert 'the update is zero' in words['the update is zero']['reason']


def test_an_image_that_was_known_before_leaks_nothing(case):
  """The verdict asks for more than what the auxiliary data hold."""
  setup, item = case
  needs = setup.attack.needs | {'auxiliary_data'}
  setup = setup._replace(attack=setup.attack._replace(needs=needs))
  shifted = np.clip(item.batch.x + 0.05, 0, 1)
  auxiliary = setup.dataset._replace(
    labels=np.arange(2), take=lambda i: types.Batch(shifted[np.asarray(i)], i)
  )
  grey = np.full_like(item.batch.x, 0.5)
  verdicts = {}
  for name, one in {
    'public': setup._replace(auxiliary=auxiliary),
    'private': setup,
  }.items():
    found = _found(shifted)
    row, arrays = _evaluated(one, item, found, _found(grey), np.ones(1, bool))
    verdicts[name] = evaluate.conclude(row, arrays, grey, setup.scorers)[0][
      'verdict'
    ]
    assert ('x_nearest_auxiliary' in arrays) == (name == 'public')
  assert verdicts == {'public': 'resists', 'private': 'leaks'}
