"""Combinators: attacks in, attacks out."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from giajax import keys
from giajax import trees
from giajax import types
from giajax.attacks import base
from giajax.attacks.parts import labels


class Best(NamedTuple):
  """An attack's state, and the best iterate so far."""

  inner: Any  # the attack's state, with a field `variable`
  variable: Any  # the variable of the best iterate
  loss: types.Array  # [] the objective there; float64 if that is enabled


def keep_best(attack: base.Attack) -> base.Attack:
  """Reads the iterate of lowest objective instead of the last one.

  The objective is the attacker's own, as `step` reports it, and belongs to the
  iterate before the step: the result of the last step is not a candidate.
  Iterates with a non-finite objective are never kept.

  Args:
    attack: an attack whose state has a field `variable`, which is all that
      `read` uses of it.
  """

  def init(key, obs, hp):
    state = attack.init(key, obs, hp)
    infinite = jnp.asarray(jnp.inf, jnp.result_type(float))
    return Best(state, state.variable, infinite)

  def step(key, state, obs, hp):
    inner, info = attack.step(key, state.inner, obs, hp)
    # `info.loss` belongs to the iterate before the step.
    better = jnp.isfinite(info.loss) & (info.loss < state.loss)
    best = trees.where(better, state.inner.variable, state.variable)
    loss = jnp.where(better, info.loss.astype(state.loss.dtype), state.loss)
    return Best(inner, best, loss), info

  def read(state, obs, hp):
    best = state.inner._replace(variable=state.variable)
    return attack.read(best, obs, hp)

  return attack._replace(init=init, step=step, read=read)


class Labelled(NamedTuple):
  """An attack's state, and the labels that a rule inferred."""

  inner: Any
  labels: types.Array  # [B] int32


def with_labels(attack: base.Attack, rule: labels.Rule) -> base.Attack:
  """Gives an attack labels inferred from the update instead of granted ones.

  Args:
    attack: an attack that needs 'labels'.
    rule: the name of a rule in `labels.RULES`.
  """

  def labelled(obs, y):
    return obs._replace(side={**obs.side, 'labels': y})

  def init(key, obs, hp):
    y = rule.infer(keys.named(key, 'labels'), obs)
    return Labelled(attack.init(key, labelled(obs, y), hp), y)

  def step(key, state, obs, hp):
    obs = labelled(obs, state.labels)
    inner, info = attack.step(key, state.inner, obs, hp)
    return Labelled(inner, state.labels), info

  def read(state, obs, hp):
    return attack.read(state.inner, labelled(obs, state.labels), hp)

  return attack._replace(
    init=init,
    step=step,
    read=read,
    needs=(attack.needs - {'labels'}) | rule.needs,
  )
