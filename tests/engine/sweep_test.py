"""Tests of points and cohorts."""

import pytest
import tiny

from giajax.engine import build
from giajax.engine import sweep


def test_no_sweep_is_one_point():
  (point,) = sweep.expand(tiny.config())
  assert (point.index, point.overrides) == (0, {})
  assert 'sweep' in point.config
  assert not point.config['sweep']


def test_product_with_the_last_key_fastest():
  config = build.resolve(tiny.config())
  config['sweep'] = {'seed': [0, 1], 'attack.total_variation': [0.0, 0.1]}
  points = sweep.expand(config)
  assert [tuple(p.overrides.values()) for p in points] == [
    *((0, 0.0), (0, 0.1), (1, 0.0), (1, 0.1)),
  ]
  assert points[3].config['seed'] == 1
  assert points[3].config['attack']['total_variation'] == 0.1
  assert points[0].config['seed'] == 0


@pytest.mark.parametrize(
  'swept, words',
  [
    ({'seed': 3}, 'a list of values'),
    ({'seed': (0,), 'zip': {'seed': (1,)}}, "each key on one axis .* 'seed'"),
    ({'seed': []}, 'a list of values'),
    ({'model.name': 'mlp'}, 'a list of values'),
    ({'sede': [1]}, "did you mean 'seed'"),
    ({'cases.size': [1]}, 'a key of cases'),
    ({'csaes.count': [1]}, 'swept keys of the config'),
    ({'seed.x': [1]}, 'swept keys of the config'),
    ({'attack.learning_rate': [10**20]}, 'whole numbers of 64 bits'),
    ({'restarts': [1, 0]}, 'restarts of at least 1'),
    ({'sweep.seed': [1]}, 'swept keys of the config'),
    (
      {'seed': [*range(100)], 'restarts': [1] * 501},
      '100,000 updates; got 100,200 updates from',
    ),
    (
      {'variant': [{'name': 'a', 'cases.count': 99_999}, {'name': 'b'}]},
      '100,000 updates; got 199,998 updates',
    ),
    ({'cases.count': [50_001, 2]}, '100,000 updates; got 100,002 updates'),
  ],
)
def test_mistakes_are_named(swept, words):
  config = {**build.resolve(tiny.config()), 'sweep': swept}
  with pytest.raises(ValueError, match=f'^Expected .*{words}'):
    sweep.expand(config)


def test_keys_of_a_config_file_keep_their_order():
  config = tiny.config()
  config.sweep = {'seed': (0, 1), 'cases.batch_size': (1, 2)}
  overrides = [tuple(s.overrides.values()) for s in sweep.expand(config)]
  assert overrides == [(0, 1), (0, 2), (1, 1), (1, 2)]
