"""Tests of giajax.engine.halving."""

import pytest
import tiny

from giajax.engine import halving
from giajax.engine import run
from giajax.engine import sweep


@pytest.mark.parametrize(
  'points, steps, factor, expected',
  [
    (9, 90, 3, [(10, 9), (30, 3), (90, 1)]),
    (8, 100, 2, [(12, 8), (25, 4), (50, 2), (100, 1)]),
    (10, 27, 3, [(3, 10), (9, 4), (27, 2)]),
    (2, 10, 3, [(3, 2), (10, 1)]),
    (27, 9, 3, [(1, 27), (1, 9), (3, 3), (9, 1)]),
  ],
)
def test_rounds(points, steps, factor, expected):
  assert halving.rounds(points, steps, factor) == expected


_RATES = (1e-7, 0.1, 1e-6, 1e-5)
_SWEEP = {'attack.learning_rate': _RATES}


def test_the_setting_that_matches_best_is_left(tmp_path):
  """By the attacker's score; the truth has no say."""
  config = tiny.config(restarts=1, sweep=_SWEEP, noise_controls=0)
  rungs = halving.tune(config, tmp_path, factor=2)
  assert [rung.round for rung in rungs] == [(3, 4), (6, 2), (12, 1)]
  assert [next(iter(rung.scores)) for rung in rungs] == [1, 1, 1]
  for rung in rungs:
    assert [*rung.scores.values()] == sorted(rung.scores.values())
    assert len(rung.rows) == 2 * rung.round.settings
  (point,) = {row['sweep']['attack.learning_rate'] for row in rungs[-1].rows}
  assert point == 0.1
  # What is left is what the config alone would have made of it.
  alone = sweep.only(config, 1).config
  rows = run.audit(alone, tmp_path / 'alone')
  assert [r['score'] for r in rows] == [r['score'] for r in rungs[-1].rows]
  again = halving.tune(config, tmp_path, factor=2)
  assert [rung.rows for rung in again] == [rung.rows for rung in rungs]


def test_variants_are_carried_on(tmp_path):
  variants = (
    {'name': 'slow', 'attack.learning_rate': 1e-7},
    {'name': 'fast', 'attack.learning_rate': 0.1},
  )
  config = tiny.config(sweep={'variant': variants}, noise_controls=0)
  rungs = halving.tune(config, tmp_path, factor=2)
  assert {row['sweep']['variant'] for row in rungs[-1].rows} == {'fast'}
  settings = sweep.expand(config)
  assert 'best variant=fast' in halving.describe(rungs[0], settings)


@pytest.mark.parametrize(
  'changes, words',
  [
    (dict(sweep={'seed': (0, 1)}), 'got seed'),
    (dict(sweep={'attack.num_steps': (1, 2)}), 'got attack.num_steps'),
    (dict(sweep={'attack.top_leaves': (1, 2)}), 'got attack.top_leaves'),
    (dict(sweep={'attack.distance': ('l2', 'cosine')}), 'attack.distance'),
    (
      dict(sweep={'variant': ({'name': 'a', 'cases.batch_size': 2},)}),
      'got cases.batch_size',
    ),
    (dict(sweep={'attack.learning_rate': (0.1,)}), 'several points'),
    (dict(attack=dict(name='linear_layer'), sweep={}), 'several points'),
  ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, changes, words):
  with pytest.raises(ValueError, match=f'^Expected .*{words}'):
    halving.tune(tiny.config(**changes), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
