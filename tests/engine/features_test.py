"""Tests of what the audited network says of guesses."""

import numpy as np
import pytest
import tiny

from giajax.data import base as data
from giajax.engine import build
from giajax.engine import features
from giajax.engine.sources import simulated


@pytest.fixture(scope='module')
def setup():
  """Returns two cases of a setup: four classes of three, and one alone."""
  made = build.setup(build.resolve(tiny.config(cases__batch_size=2)))
  photographs = made.dataset
  labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4])
  return made._replace(
    dataset=data.dataset(
      name='classes',
      image_shape=photographs.image_shape,
      class_names=tuple('abcde'),
      labels=labels,
      note='',
      read=lambda i: np.asarray(photographs.take([i]).x[0]),
    )
  )


def _item(setup, *indices):
  batch = setup.dataset.take(indices)
  batch = batch._replace(x=np.asarray(batch.x), y=np.asarray(batch.y))
  return simulated.Item(0, False, np.array(indices), batch)


def test_guesses_are_told_apart(setup):
  item = _item(setup, 1, 12)
  x = item.batch.x
  guesses = {
    'exact': x,
    'wrong': np.asarray(setup.dataset.take([2, 3]).x),
    'lost': np.full_like(x, np.nan),
  }
  scores, chance = features.compare(setup, item, guesses, 0)
  nan = np.nan  # the second image is alone in its class
  np.testing.assert_array_equal(scores['exact']['iip'], [1, nan])
  np.testing.assert_array_equal(scores['wrong']['iip'], [0, nan])
  np.testing.assert_array_equal(scores['lost']['iip'], [0, nan])
  np.testing.assert_array_equal(scores['exact']['fmse'], [0, 0])
  assert np.all(scores['wrong']['fmse'] > 0)
  assert np.isnan(scores['lost']['fmse']).all()
  assert chance == pytest.approx(1 / 3)


def test_fmse_is_of_what_the_classifier_reads(setup):
  item = _item(setup, 0, 5)
  x = 0.5 * item.batch.x
  found = features.compare(setup, item, {'dark': x}, 0).scores['dark']['fmse']
  taps = ('layers.1.input',)
  f, g = (
    setup.net.apply(setup.variables, v, taps=taps).taps[taps[0]]
    for v in (item.batch.x, x)
  )
  expected = np.mean((np.asarray(f) - np.asarray(g)) ** 2, axis=1)
  np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_any_number_of_images_is_one_compilation(setup):
  see = features._extractor(setup.viewer)
  for indices in ((0, 1), (12, 11), tuple(range(13))):
    item = _item(setup, *indices)
    features.compare(setup, item, {'a': item.batch.x}, 0)
  assert see._cache_size() == 1


def test_network_without_layers_says_nothing(setup):
  blind = setup._replace(viewer=lambda: setup.net._replace(probe=None))
  item = _item(setup, 0)
  scores, chance = features.compare(blind, item, {'a': item.batch.x}, 0)
  assert np.isnan([*scores['a'].values()]).all()
  assert chance is None
