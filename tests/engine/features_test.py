"""Tests of what the agreed network says of images."""

import jax
import numpy as np
import pytest
import tiny

from giajax.data import base as data
from giajax.engine import build
from giajax.engine import experiment
from giajax.engine import features
from giajax.metrics import fmse
from giajax.metrics import scoring


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
  return experiment.Item(0, False, np.array(indices), batch)


def test_guesses_are_told_apart(setup):
  item = _item(setup, 1, 12)
  x = item.batch.x
  guesses = {
    'exact': x,
    'wrong': np.asarray(setup.dataset.take([2, 3]).x),
    'lost': np.full_like(x, np.nan),
  }
  shared = features.facts(setup, item, 0)
  scores = {
    name: scoring.scores(
      setup.scorers, {**shared, **features.hat(setup, guess)}, 'guess', 2
    )
    for name, guess in guesses.items()
  }
  nan = np.nan  # the second image is alone in its class
  np.testing.assert_array_equal(scores['exact']['iip'], [1, nan])
  np.testing.assert_array_equal(scores['wrong']['iip'], [0, nan])
  np.testing.assert_array_equal(scores['lost']['iip'], [0, nan])
  np.testing.assert_array_equal(scores['exact']['fmse'], [0, 0])
  assert np.all(scores['wrong']['fmse'] > 0)
  assert np.isnan(scores['lost']['fmse']).all()
  chance = scoring.scores(setup.scorers, shared, 'batch', 2)['iip_chance']
  np.testing.assert_allclose(chance, [1 / 3, nan])


def test_features_are_what_the_classifier_reads(setup):
  item = _item(setup, 0, 5)
  x = 0.5 * item.batch.x
  own = features.hat(setup, x)['features_hat']
  found = fmse.fmse(features.facts(setup, item, 0)['features'], own)
  taps = ('layers.1.input',)
  f, g = (
    setup.net.apply(setup.variables, v, taps=taps).taps[taps[0]]
    for v in (item.batch.x, x)
  )
  expected = np.mean((np.asarray(f) - np.asarray(g)) ** 2, axis=1)
  np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_any_number_of_images_is_one_compilation(setup):
  net, traced = setup.viewer(), []

  def counted(*args, **kwargs):
    traced.append(args)
    return net.apply(*args, **kwargs)

  setup = setup._replace(viewer=lambda: net._replace(apply=counted))
  for indices in ((0, 1), (12, 11), tuple(range(13))):
    item = _item(setup, *indices)
    features.facts(setup, item, 0)
    features.hat(setup, item.batch.x)
  assert len(traced) == 1


def test_what_is_seen_in_an_image_does_not_depend_on_its_place():
  resolved = build.resolve(tiny.config(model=dict(name='lenet')))
  setup = build.setup(resolved)
  x = np.asarray(setup.dataset.take(range(11)).x)
  order = np.random.default_rng(0).permutation(11)
  seen = features.view(setup, x)
  again = features.view(setup, x[order])
  for one, other in zip(seen, again):
    np.testing.assert_array_equal(one[order], other)


def test_rivals_are_read_once(setup):
  read = []
  take = setup.dataset.take

  def counting(indices):
    read.extend(np.asarray(indices).tolist())
    return take(indices)

  counted = setup._replace(dataset=setup.dataset._replace(take=counting))
  first = features.rivals(counted, _item(setup, 0, 4), 0)
  assert sorted(read) == [1, 2, 3, 5]
  again = features.rivals(counted, _item(setup, 4, 0), 0)
  assert sorted(read) == [1, 2, 3, 5]
  for a, b in zip(first, reversed(again)):
    np.testing.assert_array_equal(np.sort(a, axis=0), np.sort(b, axis=0))
  # Other weights see other things.
  other = setup.net.init(jax.random.key(7))
  features.rivals(counted._replace(variables=other), _item(setup, 0), 0)
  assert sorted(read) == [1, 1, 2, 2, 3, 5]


def test_network_without_layers_says_nothing(setup):
  blind = setup._replace(viewer=lambda: setup.net._replace(probe=None))
  item = _item(setup, 0)
  assert features.facts(blind, item, 0) == {}
  assert features.hat(blind, item.batch.x) == {}
  logits = features.view(blind, item.batch.x).out
  expected = setup.net.apply(setup.variables, item.batch.x).out
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-6)
