"""Tests of which images a training sees."""

import pytest

from giajax.engine import build
from giajax.engine import trainings


@pytest.mark.parametrize('named', [{}, {'split': 'test'}])
def test_a_split_that_the_config_leaves_out_is_switched_as_well(named):
  resolved = build.resolve(
    {
      'dataset': {'name': 'shapes', 'size': 32, 'count': 4, **named},
      'model': {'name': 'tests.detectors:net'},
      'task': {'name': 'detection'},
    }
  )

  def taught(split):
    return trainings.of_model(resolved, split=split, batch_size=1, seed=0)

  assert taught('train').system.dataset.name == 'shapes, train'
  assert taught('train').tested.name == 'shapes'
  assert taught('test').config['dataset'] == resolved['dataset']
