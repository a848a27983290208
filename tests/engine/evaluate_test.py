"""Tests of scoring: what is chosen, what it is compared with."""

import numpy as np
import pytest
import tiny

from giajax import types
from giajax.engine import build
from giajax.engine import evaluate
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
  """Returns a setup with two images a batch, and an item."""
  resolved = build.resolve(tiny.config(cases__batch_size=2))
  setup = build.setup(resolved)
  return setup, simulated.item(setup, 0)


def _found(*images, scores=None):
  x = np.stack(images)
  y = np.zeros(x.shape[:2], np.int32)
  valid = np.ones(x.shape[:2], bool)
  scores = np.arange(len(x), dtype=np.float32) if scores is None else scores
  return types.Reconstruction(types.Batch(x, y), valid, np.float32(scores))


def test_order_is_repaired_and_the_oracle_stands_apart(case):
  setup, item = case
  x = item.batch.x
  grey = np.full_like(x, 0.5)
  found = _found(grey, x[::-1])
  row, arrays = evaluate.evaluate(
    setup, item, found, _found(grey, grey), np.ones(2, bool), 0
  )
  assert arrays['chosen'] == 0  # by score, though the other is perfect
  assert row['psnr'] < 20
  assert row['psnr_oracle'] > 60
  row, arrays = evaluate.evaluate(
    setup, item, found, _found(grey, grey), np.array([False, True]), 0
  )
  np.testing.assert_array_equal(arrays['x_hat'], x)
  assert row['finite_restarts'] == 1
  row, further = evaluate.conclude(row, arrays, grey)
  kept = dict(zip(row['baselines'], further['baselines']))
  assert kept['start'].shape == (7, 2)  # scores of two images
  for name, scores in row['baselines'].items():
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
  assert noise['fmse'] is noise['iip'] is None
  assert row['iip'] is row['iip_chance'] is None


def test_claimed_images_are_averaged_apart(case):
  setup, item = case
  found = _found(item.batch.x)

  def row(*valid):
    claims = found._replace(valid=np.array([valid]))
    return evaluate.evaluate(setup, item, claims, found, np.ones(1, bool), 0)[0]

  one, none = row(False, True), row(False, False)
  assert one['claimed'] == 1 and one['psnr_claimed'] > 60 > one['psnr']
  assert one['ssim_claimed'] == pytest.approx(1)
  assert none['claimed'] == 0 and none['psnr_claimed'] is None


def test_failed_restarts_are_scored_as_failures(case):
  setup, item = case
  bad = np.full_like(item.batch.x, np.nan)
  row, arrays = evaluate.evaluate(
    setup, item, _found(bad), _found(item.batch.x), np.zeros(1, bool), 0
  )
  row, _ = evaluate.conclude(row, arrays, bad)
  assert row['finite_restarts'] == 0
  assert np.isnan(row['psnr'])
  assert row['verdict'] == 'resists'


def test_whole_data_set_as_a_batch_has_no_images_left():
  resolved = build.resolve(tiny.config(cases__batch_size=16))
  setup = build.setup(resolved)
  item = simulated.item(setup, 0)
  found = _found(item.batch.x)
  row, _ = evaluate.evaluate(setup, item, found, found, np.ones(1, bool), 0)
  assert [*row['baselines']] == ['start']
