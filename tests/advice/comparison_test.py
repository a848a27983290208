"""Tests of what tells an effect from chance."""

import numpy as np
import pytest

from giajax.advice import comparison
from giajax.report import advice


def recovery(psnr, seed=0):
  """Returns what came back from updates, with random images of a seed."""
  rng = np.random.default_rng(seed)
  updates = [np.asarray(values, float) for values in psnr]
  return comparison.Recovery(
    images=[rng.random((len(u), 2, 2, 1)) for u in updates],
    psnr=updates,
    ssim=[np.zeros(len(u)) for u in updates],
    recognised=[u >= 18 for u in updates],
    verdicts=['resists' if u.max() < 18 else 'leaks' for u in updates],
  )


def single(psnr, seed=0):
  """Returns updates of one image each."""
  return recovery([[value] for value in psnr], seed)


def test_two_images_tell_nothing():
  # What was called a small help: other images of another batch size.
  before = single([12.1, 10.6])
  after = recovery([[10.2, 9.8, 11.0, 9.9], [10.1, 10.3, 10.2, 11.0]], seed=1)
  compared = comparison.compare(before, after)
  assert compared['chance'] is None and not compared['paired']
  assert compared['gain'] == pytest.approx(10.3125 - 11.35)


@pytest.mark.parametrize(
  'updates, seed, known',
  [(7, 0, False), (8, 0, True), (4, 1, False), (5, 1, True)],
)
def test_how_many_updates_it_takes(updates, seed, known):
  before, after = single([30.0] * updates), single([9.0] * updates, seed)
  compared = comparison.compare(before, after)
  assert compared['paired'] == (seed == 0)
  assert (compared['chance'] is not None) == known
  if known:
    assert compared['chance'] <= advice.LEVEL
    assert compared['gain'] == -21.0


def test_images_of_one_update_are_one_observation():
  compared = comparison.compare(recovery([[30.0] * 16]), recovery([[9.0] * 16]))
  assert compared['paired'] and compared['chance'] is None


@pytest.mark.parametrize('paired', [True, False])
def test_chance_alone_is_seldom_called_an_effect(paired):
  rng, claims, trials = np.random.default_rng(0), 0, 300
  for _ in range(trials):
    before, after = rng.normal(15, 3, (2, 9))
    other = single(after, seed=0 if paired else 1)
    compared = comparison.compare(single(before), other)
    assert compared['paired'] == paired
    claims += compared['chance'] <= advice.LEVEL
  # Of 300 fair tests at 1 %, more than 10 flagged have a chance of 3e-4.
  assert claims <= 10


def test_pairs_show_what_the_spread_of_images_hides():
  rng = np.random.default_rng(0)
  before = rng.normal(20, 6, 12)
  after = before - 1.5 + rng.normal(0, 0.5, 12)
  same = comparison.compare(single(before), single(after))
  apart = comparison.compare(single(before), single(after, seed=1))
  assert same['chance'] <= advice.LEVEL < apart['chance']


def test_exact_is_exact():
  before, after = single([50.0] * 9), single([100.0] * 9)
  compared = comparison.compare(before, after)
  assert compared['gain'] == 0 and compared['chance'] == 1


def test_facts():
  facts = comparison.facts(recovery([[30.0, 10.0], [12.0, 11.0]]))
  assert facts == {
    'psnr': 11.5,
    'ssim': 0.0,
    'recognised': 1,
    'images': 4,
    'updates': 2,
    'recovered': True,
  }
  assert not comparison.facts(single([12.0, 11.0]))['recovered']
  partial = single([17.0])._replace(verdicts=['partial'])
  assert comparison.facts(partial)['recovered']
