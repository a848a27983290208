"""Tests of running statistics that are not those of the images."""

import handmade
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize(
  'changed, decades',
  [
    (dict(norm__var=lambda v: v * 1e8), 4.0),
    (dict(norm__var=lambda v: v.at[2].mul(1e8)), 4.0),
    (dict(norm__mean=lambda m: m + 1e3), 3.0),
    (dict(conv__kernel=lambda k: k * 1e-2, conv__bias=lambda b: b * 1e-2), 2.0),
    (dict(norm__bias=lambda b: b + 1.0, norm__scale=lambda s: s * 9.0), 0.0),
  ],
)
def test_statistics_are_off_by_hand(changed, decades):
  verdict = handmade.run('running_statistics', handmade.received(**changed))
  # What a fresh network is off by comes on top, and is taken away.
  assert verdict.score == pytest.approx(decades, abs=0.3)
  assert verdict.flagged == (decades > 0)


def test_what_blinds_other_checks_is_seen():
  small = lambda b: jnp.full_like(b, 0.01)  # noqa: E731
  weights = dict(hidden__kernel=handmade.selecting, hidden__bias=small)
  open_, blind = (
    handmade.received(**weights, norm__var=lambda v, by=by: v * by)
    for by in (1, 1e8)
  )
  for name in ('gradient_rank', 'isolation'):
    assert (
      handmade.run(name, open_).flagged
      and not handmade.run(name, blind).flagged
    )
  verdict = handmade.run('running_statistics', blind)
  assert verdict.flagged and 'norm' in verdict.evidence
  assert not handmade.run('running_statistics', open_).flagged


def test_statistics_of_its_own_images_are_no_objection():
  own = handmade.view().statistics(handmade.fresh(), handmade.probe())['norm']
  mean, var = (lambda _, a=a: a for a in own)
  verdict = handmade.run(
    'running_statistics', handmade.received(norm__mean=mean, norm__var=var)
  )
  assert verdict.score == 0 and not verdict.flagged


def test_statistics_that_overflow_are_an_objection():
  wrong = handmade.received(conv__kernel=lambda k: k.at[0, 0, 0, 0].set(3e38))
  verdict = handmade.run('running_statistics', wrong)
  assert verdict.flagged and verdict.score == np.inf


@pytest.mark.parametrize('value', [np.nan, np.inf, -1.0])
def test_statistics_that_are_none_are_an_objection(value):
  wrong = handmade.received(norm__var=lambda v: v.at[0].set(value))
  verdict = handmade.run('running_statistics', wrong)
  assert verdict.flagged and verdict.score == np.inf
