"""Tests of giajax.attacks.parts.compose on attacks whose course is known."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from giajax.attacks import base
from giajax.attacks.parts import compose
from giajax.attacks.parts import labels

INF, NAN = np.inf, np.nan


class Count(NamedTuple):
  """The steps taken, in the field of what is optimised."""

  variable: jax.Array


def counting(losses):
  """An attack whose state counts its steps; iterate i has losses[i]."""
  table = jnp.asarray(losses, jnp.float32)

  def step(key, state, obs, hp):
    del key, obs, hp
    loss = table[state.variable]
    state = Count(state.variable + 1)
    return state, types.Info(loss, {'matching': loss}, jnp.isfinite(loss))

  def read(state, obs, hp):
    del hp
    y = obs.side.get('labels', jnp.full(1, -1))
    score = jnp.asarray(state.variable, jnp.float32)
    x = jnp.full((1, 1, 1, 1), score)
    return types.Reconstruction(types.Batch(x, y), jnp.ones(1, bool), score)

  return base.Attack(
    craft=base.honest,
    init=lambda key, obs, hp: Count(jnp.int32(0)),
    step=step,
    read=read,
    num_steps=len(losses),
    num_rounds=1,
    hparams={},
    needs=frozenset({'model', 'labels'}),
  )


def run(attack, obs=types.Observation(None, None, {})):  # noqa: B008
  state = attack.init(jax.random.key(0), obs, {})

  def body(state, t):
    return attack.step(jax.random.key(t), state, obs, {})

  state, infos = jax.lax.scan(body, state, jnp.arange(attack.num_steps))
  return state, infos, attack.read(state, obs, {})


@pytest.mark.parametrize(
  ('losses', 'kept'),
  [
    ([3, 2, 1], 2),
    ([3, 1, 2], 1),
    ([1, 2, 3], 0),
    ([2, 1, 1], 1),
    ([NAN, 2, 3], 1),
    ([3, NAN, 2, NAN], 2),
    ([INF, 2, 3], 1),
    ([3, -INF, 2], 2),
    ([NAN, NAN], 0),
    ([-1, -5, 0], 1),
  ],
)
def test_keeps_the_iterate_of_lowest_objective(losses, kept):
  state, infos, found = run(compose.keep_best(counting(losses)))
  assert int(found.score) == kept
  finite = [value for value in losses if np.isfinite(value)]
  np.testing.assert_allclose(state.loss, min(finite, default=INF))
  # The attack itself goes on as if nothing were kept.
  assert int(state.inner.variable) == len(losses)
  np.testing.assert_array_equal(infos.loss, np.float32(losses))


def test_keeping_is_the_same_attack_otherwise():
  attack = counting([1.0])
  kept = compose.keep_best(attack)
  assert (kept.num_steps, kept.needs) == (attack.num_steps, attack.needs)
  assert kept.craft is attack.craft


def three(key, obs):
  del key
  return obs.update


rule = labels.Rule(three)


def test_labels_are_those_of_the_rule():
  attack = compose.with_labels(counting([1.0, 1.0]), rule)
  obs = types.Observation(None, jnp.array([7]), {})
  state, _, found = run(attack, obs)
  assert state.labels.tolist() == found.batch.y.tolist() == [7]


def test_inferred_labels_replace_granted_ones():
  attack = compose.with_labels(counting([1.0]), rule)
  obs = types.Observation(None, jnp.array([7]), {'labels': jnp.array([3])})
  assert run(attack, obs)[2].batch.y.tolist() == [7]


def test_rule_draws_from_a_key_of_its_own():
  drawn = []

  def noted(key, obs):
    drawn.append(jax.random.key_data(key).tolist())
    return obs.update

  attack = counting([1.0])
  attack = attack._replace(
    init=lambda key, obs, hp: drawn.append(jax.random.key_data(key).tolist())
  )
  obs = types.Observation(None, jnp.array([7]), {})
  compose.with_labels(attack, labels.Rule(noted)).init(
    jax.random.key(0), obs, {}
  )
  assert len(drawn) == 2 and drawn[0] != drawn[1]


def test_needs_of_the_rule_take_the_place_of_labels():
  attack = counting([1.0])
  assert compose.with_labels(attack, rule).needs == {'model'}
  found = compose.with_labels(
    attack, labels.Rule(three, frozenset({'proxy_data'}))
  ).needs
  assert found == {'model', 'proxy_data'}


def test_combinators_compose():
  attack = compose.with_labels(compose.keep_best(counting([3, 1, 2])), rule)
  obs = types.Observation(None, jnp.array([7]), {})
  found = run(attack, obs)[2]
  assert int(found.score) == 1 and found.batch.y.tolist() == [7]


@pytest.mark.parametrize(
  ('later', 'kept'),
  [((2.0, 0.5), 6), ((2.0, 1.5), 1), ((1.0, 1.0), 1), ((NAN, 0.5), 6)],
)
def test_stages_begin_at_the_best_so_far_and_end_there(later, kept):
  """Iterate 1 is the best of the first stage; the second goes on as 5, 6."""
  plain = counting([3, 1, 2, INF, INF, *later])._replace(num_steps=5)
  attack = compose.in_stages(
    plain, [3, 2], lambda variable, stage, obs: variable + 4 * stage
  )
  state, infos, found = run(attack)
  np.testing.assert_array_equal(infos.loss, [3, 1, 2, *later])
  assert found.score == kept and state.count == 5


def test_stages_compare_matching_losses():
  """A prior that favours an iterate does not make it the best one."""
  plain = counting([3, 1, 2])

  def step(key, state, obs, hp):
    new, info = plain.step(key, state, obs, hp)
    return new, info._replace(loss=info.loss + 10.0 * (state.variable == 1))

  attack = compose.in_stages(
    plain._replace(step=step), [3], lambda variable, stage, obs: variable
  )
  assert run(attack)[2].score == 1
