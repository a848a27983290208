"""Tests of giajax.tasks.detection: what an attack is told of the matching."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.tasks import detection
from giajax.tasks.parts import objects
from giajax.tasks.parts import set_matching
from tests import detectors

K = 3
IMAGE = (32, 32, 3)
# The first image has two objects, the second has one.
Y = objects.Objects(
  np.array(
    [
      [[0.1, 0.1, 0.4, 0.5], [0.5, 0.4, 0.9, 0.9], [0, 0, 0, 0]],
      [[0.2, 0.6, 0.7, 0.9], [0, 0, 0, 0], [0, 0, 0, 0]],
    ],
    np.float32,
  ),
  np.array([[0, 2, 0], [1, 0, 0]], np.int32),
  np.array([[True, True, False], [True, False, False]]),
)


def task(**kwargs):
  return detection.detection(K, IMAGE, loss='detr', **kwargs)


def outputs(seed):
  net = detectors.cells(IMAGE, K)
  x = jax.random.uniform(jax.random.key(seed), (2, *IMAGE))
  return jax.jit(net.apply)(net.init(jax.random.key(0)), x).out


def told(own, out):
  """Returns the targets of an attack that is granted all facts of a task."""
  values = {n: f.of(Y) for n, f in own.facts.items() if f.of}
  passed = {n: f.of_pass(out, Y) for n, f in own.facts.items() if f.of_pass}
  return own.join({**values, **passed})


def test_an_oracle_is_one_more_fact_and_the_loss_of_the_client_is_the_same():
  own, plain, out = task(matching='oracle'), task(), outputs(0)
  assert {*plain.facts} == {'labels', 'boxes'}
  assert {*own.facts} == {'labels', 'boxes', 'matching'}
  y = told(own, out)
  np.testing.assert_array_equal(y.matching, set_matching.match(out, Y))
  own.check(y, 2)
  # That of data sets, and that of the candidate which is the truth.
  losses = {float(plain.loss(out, Y)), float(own.loss(out, Y))}
  assert losses == {float(own.loss(out, y))}


def test_a_candidate_keeps_the_matching_of_the_client():
  own, plain = task(matching='oracle'), task()
  out, other = outputs(0), outputs(5)
  # Of the others, all predictions stand in the order opposite to that.
  other = {name: v[:, :, ::-1] for name, v in other.items()}
  y = told(own, out)
  assert (np.asarray(set_matching.match(other, Y)) != y.matching).any()
  kept = float(own.loss(other, y))
  expected = float(set_matching.loss(other, Y, matching=y.matching))
  assert kept == expected > float(plain.loss(other, Y))
  hard = own.harden(y)
  assert isinstance(hard, objects.Objects) and own.same(Y, hard).min() == 1


def test_what_is_optimised_has_the_places_of_what_is_told():
  own = task(matching='oracle', slots=5)
  matching = told(own, outputs(0)).matching
  fact = own.facts['boxes']
  for known, places in (({}, 5), ({'matching': matching}, 3)):
    drawn = fact.draw(jax.random.key(0), 2, known)
    assert drawn.shape == (2, places, 4)
  assert own.facts['matching'].draw is None


@pytest.mark.parametrize(
  ('kwargs', 'words'),
  [
    ({'matching': 'oracel'}, "did you mean 'oracle'"),
    ({'matching': 'oracle', 'loss': 'yolo'}, "loss='detr' for .*loss='yolo'"),
    ({'slots': 0}, 'slots=0'),
  ],
)
def test_mistakes_are_one_line(kwargs, words):
  with pytest.raises(ValueError, match=f'^Expected.*{words}') as info:
    detection.detection(K, IMAGE, **kwargs)
  assert '\n' not in str(info.value)


def test_a_matching_that_was_not_asked_for_is_refused():
  y = set_matching.Matched(Y, jnp.zeros((2, 1, 3), jnp.int32))
  with pytest.raises(ValueError, match=r'^Expected objects .*got Matched'):
    task().check(y, 2)
