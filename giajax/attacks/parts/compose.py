"""Combinators: attacks in, attacks out."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import keys
from giajax import trees
from giajax import types
from giajax.attacks import base
from giajax.attacks.parts import labels
from giajax.ops import anywhere


class Best(NamedTuple):
  """An attack's state, and the best iterate so far."""

  inner: Any  # the attack's state, with a field `variable`
  variable: Any  # the variable of the best iterate
  loss: types.Array  # [] the objective there; float64 if that is enabled


def _loss(info: types.Info) -> types.Array:
  return info.loss


def keep_best(
  attack: base.Attack, by: Callable[[types.Info], types.Array] = _loss
) -> base.Attack:
  """Reads the iterate of lowest objective instead of the last one.

  The objective is the attacker's own, as `step` reports it, and belongs to the
  iterate before the step: the result of the last step is not a candidate.
  Iterates with a non-finite objective are never kept.

  Args:
    attack: an attack whose state has a field `variable`, which is all that
      `read` uses of it.
    by: `(info) -> []`, what is lowest instead of the whole objective.
  """

  def init(key, obs, hp):
    state = attack.init(key, obs, hp)
    infinite = jnp.asarray(jnp.inf, jnp.result_type(float))
    return Best(state, state.variable, infinite)

  def step(key, state, obs, hp):
    inner, info = attack.step(key, state.inner, obs, hp)
    # It belongs to the iterate before the step.
    loss = by(info).astype(state.loss.dtype)
    better = jnp.isfinite(info.loss) & (loss < state.loss)
    best = trees.where(better, state.inner.variable, state.variable)
    loss = jnp.where(better, loss, state.loss)
    return Best(inner, best, loss), info

  def read(state, obs, hp):
    best = state.inner._replace(variable=state.variable)
    return attack.read(best, obs, hp)

  return attack._replace(init=init, step=step, read=read)


class Staged(NamedTuple):
  """An attack's state and best iterate, and the steps that it has taken."""

  best: Best
  count: types.Array  # [] int32


def in_stages(
  attack: base.Attack,
  steps: Sequence[int],
  enter: Callable[[Any, types.Array, types.Observation], Any],
) -> base.Attack:
  """Gives an attack stages, each of which begins at the best iterate so far.

  The best one is that of the least matching loss, the attacker's own score, in
  whichever stage: what is read is never worse than what the first stage alone
  would have found.

  Args:
    attack: see `keep_best`; it does not keep its best iterate itself.
    steps: the number of steps of each stage.
    enter: see `Variable.enter`.
  """
  whole = keep_best(attack, by=lambda info: info.terms['matching'])
  starts = np.cumsum(steps[:-1], dtype=np.int32)

  def init(key, obs, hp):
    return Staged(whole.init(key, obs, hp), jnp.zeros((), jnp.int32))

  def step(key, state, obs, hp):
    best, count = state
    stage = (count >= starts).sum()
    begins = (count == starts).any()
    variable = jax.lax.cond(
      anywhere.anywhere(begins),
      lambda: trees.where(
        begins, enter(best.variable, stage, obs), best.inner.variable
      ),
      lambda: best.inner.variable,
    )
    inner = best.inner._replace(variable=variable)
    best, info = whole.step(key, best._replace(inner=inner), obs, hp)
    return Staged(best, count + 1), info

  def read(state, obs, hp):
    return whole.read(state.best, obs, hp)

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
