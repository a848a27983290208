"""Tests of giajax.engine.beside."""

import numpy as np
import tiny

from giajax.engine import beside
from giajax.engine import build
from giajax.engine import guesses


def _setup(**changes):
  return build.setup(build.resolve(tiny.config(**changes)))


def test_what_stands_beside_an_update_is_computed_once(monkeypatch):
  setup = _setup()
  made = []
  whole = guesses.of_item

  def noted(setup, item, seed):
    made.append(item.case)
    return whole(setup, item, seed)

  monkeypatch.setattr(guesses, 'of_item', noted)
  items = [setup.source.item(setup, case) for case in (0, 1, 0)]
  first, second, again = (beside.of_item(setup, i, 0) for i in items)
  assert made == [0, 1]
  assert again is first and second is not first
  # What other weights see in them is another thing.
  other = beside.of_item(_setup(seed=1), items[0], 0)
  assert made == [0, 1, 0]
  assert not np.array_equal(other.facts['features'], first.facts['features'])


def test_guesses_are_scored_as_the_attack_is():
  setup = _setup()
  item = setup.source.item(setup, 0)
  found = beside.of_item(setup, item, 0)
  assert {*found.scores} == {*found.images} == {'mean_image', 'other_image'}
  x = item.batch.x
  others = setup.source.item(setup, 1).batch.x
  (_, seen) = beside.look(setup, [(others, {'a': x}), (x, found.images)])
  again = beside.scores(setup, found.facts, seen)
  for name, own in found.scores.items():
    assert own.keys() == again[name].keys()
    for metric, values in own.items():
      np.testing.assert_array_equal(values, again[name][metric])
  (seen,) = beside.look(setup, [(x, {'attack': x})])
  exact = beside.scores(setup, found.facts, seen)['attack']
  assert exact['psnr'] == 100 and exact['fmse'] == 0
  np.testing.assert_array_equal(
    found.facts['ssim_mean_image'], found.scores['mean_image']['ssim']
  )
