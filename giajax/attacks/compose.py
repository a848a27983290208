"""Combinators: attacks in, attacks out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from giajax import keys
from giajax import trees
from giajax import types
from giajax.attacks import base


class Best(NamedTuple):
  """An attack's state beside the best one that it passed through."""

  inner: Any
  best: Any
  loss: types.Array  # [] float32, the objective at `best`


def keep_best(attack: base.Attack) -> base.Attack:
  """Reads the iterate of lowest objective instead of the last one.

  The objective is the attacker's own, as `step` reports it; iterates with a
  non-finite objective are never kept.
  """

  def init(key, obs, hp):
    state = attack.init(key, obs, hp)
    return Best(state, state, jnp.full((), jnp.inf, jnp.float32))

  def step(key, state, obs, hp):
    inner, info = attack.step(key, state.inner, obs, hp)
    # `info.loss` belongs to the iterate before the step; NaN compares false.
    better = info.loss < state.loss
    best = trees.where(better, state.inner, state.best)
    loss = jnp.where(better, info.loss, state.loss)
    return Best(inner, best, loss), info

  return attack._replace(
    init=init,
    step=step,
    read=lambda state, obs, hp: attack.read(state.best, obs, hp),
  )


class Labelled(NamedTuple):
  """An attack's state beside the labels that a rule inferred."""

  inner: Any
  labels: types.Array  # [B] int32


def with_labels(
  attack: base.Attack,
  rule: Callable[[types.Array, types.Observation], types.Array],
  needs: frozenset[str] = frozenset(),
) -> base.Attack:
  """Gives an attack labels inferred from the update instead of granted ones.

  Args:
    attack: one that needs 'labels'.
    rule: `(key, obs) -> labels [B] int32` (`labels.RULES`).
    needs: the grants that the rule uses.
  """

  def known(obs, labels):
    return obs._replace(side={**obs.side, 'labels': labels})

  def init(key, obs, hp):
    labels = rule(keys.named(key, 'labels'), obs)
    return Labelled(attack.init(key, known(obs, labels), hp), labels)

  def step(key, state, obs, hp):
    obs = known(obs, state.labels)
    inner, info = attack.step(key, state.inner, obs, hp)
    return Labelled(inner, state.labels), info

  def read(state, obs, hp):
    return attack.read(state.inner, known(obs, state.labels), hp)

  return attack._replace(
    init=init,
    step=step,
    read=read,
    needs=(attack.needs - {'labels'}) | needs,
  )
