"""Optimisation attacks: change a candidate until its update matches.

  minimise over v:  D(client(batch(v)), observed) + sum_k hp[k] * term_k

for a variable v, a distance D and terms that say what images look like. One
function builds the whole family; presets (`dlg`, `inverting_gradients`, ...)
are short calls of it.
"""

from collections.abc import Mapping
import math
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from giajax import keys
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import distances
from giajax.attacks.parts import variables
from giajax.models import inspect
from giajax.ops import fusion_barrier
from giajax.priors import base as priors

FORMS = ('auto', 'moments', 'explicit')


class State(NamedTuple):
  """Where one restart stands."""

  variable: Any  # the tree that `Variable.init` made
  optimizer: Any


def match(
  world: worlds.World,
  *,
  variable: variables.Variable,
  distance: str | distances.Distance,
  optimizer: optax.GradientTransformation,
  num_steps: int,
  terms: Mapping[str, priors.Term] | None = None,
  hparams: Mapping[str, float] | None = None,
  form: str = 'auto',
) -> base.Attack:
  """An attack that optimises a variable until its update matches.

  Args:
    world: the attacker's picture of the system.
    variable: what is optimised.
    distance: a name in `DISTANCES` or a Distance.
    optimizer: maps gradients to updates of unit learning rate; may use
      `value`, `grad` and `value_fn` as optax's line searches do, the step's
      `key`, and `hp`.
    num_steps: T >= 1.
    terms: priors by name; each needs an entry of that name in `hparams`.
    hparams: traced knobs: 'learning_rate' > 0, 1 if not given, a weight a
      term, a weight 'matching' of the distance if it is not 1, and any of the
      variable's.
    form: 'explicit' forms the candidate's update; 'moments' matches without
      forming it; 'auto' takes the latter where distance and client allow.

  Raises:
    ValueError: num_steps < 1, a term without weight or a weight without term,
      a knob that is not a finite number, or form='moments' where it cannot be
      had.
  """
  chosen = distances.lookup(distance)
  terms = dict(terms or {})
  hparams = {'learning_rate': 1.0, **variable.hparams, **(hparams or {})}
  _check(num_steps, terms, hparams, variable)
  use_moments = _use_moments(form, chosen, world)
  taps = tuple(dict.fromkeys(t for term in terms.values() for t in term.taps))
  optimizer = optax.with_extra_args_support(optimizer)

  def parts(key, tree, obs):
    """Returns the unweighted parts of the objective."""
    batch = variable.batch(tree, obs)
    target = obs.update.delta
    if use_moments:
      found, aux = world.client.moments(  # pyrefly: ignore
        key, obs.message, batch, target, taps
      )
      values = {'matching': chosen.on_moments(found)}  # pyrefly: ignore
    else:
      update, aux = world.client.update(key, obs.message, batch, taps)
      values = {'matching': chosen.on_gradients(update.delta, target)}
    for name, term in terms.items():
      values[name] = term.value(keys.named(key, name), batch, aux, obs)
    return values

  def objective(tree, key, obs, hp):
    values = parts(key, tree, obs)
    loss = values['matching'] * hp.get('matching', 1.0)
    for name in terms:
      loss = loss + hp[name] * values[name]
    return loss, values

  def init(key, obs, hp):
    tree = variable.init(key, obs, hp)
    # optax's line search starts from Python numbers.
    return State(tree, trees.strong(optimizer.init(tree)))

  def step(key, state, obs, hp):
    (loss, values), gradient = jax.value_and_grad(objective, has_aux=True)(
      state.variable, key, obs, hp
    )
    # The optimiser, the iterate and the check of it each read the gradient.
    gradient = jax.tree.map(fusion_barrier.fusion_barrier, gradient)
    updates, memory = optimizer.update(
      gradient,
      state.optimizer,
      state.variable,
      value=loss,
      grad=gradient,
      value_fn=lambda tree, key, hp: objective(tree, key, obs, hp)[0],
      key=key,
      hp=hp,
    )
    rate = hp['learning_rate']
    tree = jax.tree.map(lambda v, u: v + rate * u, state.variable, updates)
    tree = variable.project(tree)
    finite = jnp.isfinite(loss) & trees.all_finite((tree, gradient))
    tree = trees.where(finite, tree, state.variable)
    return State(tree, memory), types.Info(loss, values, finite)

  def read(state, obs, hp):
    del hp
    batch = variable.batch(state.variable, obs)
    # Clients that draw random numbers are scored with one fixed draw.
    score = parts(jax.random.key(0), state.variable, obs)['matching']
    y = world.task.harden(batch.y)
    return types.Reconstruction(
      types.Batch(jnp.clip(batch.x, 0.0, 1.0), y),
      jnp.ones(world.batch_size, bool),
      score,
    )

  return base.Attack(
    craft=base.honest,
    init=init,
    step=step,
    read=read,
    num_steps=num_steps,
    num_rounds=1,
    hparams=hparams,
    needs=variable.needs.union(
      _needs(world), *(term.needs for term in terms.values())
    ),
    group=any(term.group for term in terms.values()),
  )


def _needs(world):
  """The candidate's forward pass, by the buffers that it reads."""
  buffers = not world.client.train_mode and inspect.has_batch_norm(world.net)
  needs = {'model', 'batch_size'}
  return frozenset(needs | {'bn_buffers_before'} if buffers else needs)


def _check(num_steps, terms, hparams, variable):
  if (
    not isinstance(num_steps, int)
    or isinstance(num_steps, bool)
    or num_steps < 1
  ):
    raise ValueError(
      f'Expected a whole num_steps >= 1; got num_steps={num_steps!r}; an '
      'attack without steps returns its start'
    )
  if 'matching' in terms:
    raise ValueError(
      "Expected terms beside the distance; got a term 'matching', as the "
      'distance is called; rename it'
    )
  weights = set(hparams) - {'learning_rate', 'matching', *variable.hparams}
  if weights != set(terms):
    raise ValueError(
      f'Expected one weight a term ({", ".join(sorted(terms))}); got '
      f'hparams={sorted(weights)}; name them alike'
    )
  for name, value in hparams.items():
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
      raise ValueError(
        f'Expected finite numbers in hparams; got {name}={value!r}; correct it'
      )
  if hparams['learning_rate'] <= 0:
    raise ValueError(
      'Expected learning_rate > 0; got '
      f'learning_rate={hparams["learning_rate"]}; steps are subtracted already'
    )


def _use_moments(form, distance, world):
  if form not in FORMS:
    raise ValueError(
      f'Expected form in {FORMS}; got form={form!r}; use one of them'
    )
  possible = (
    distance.on_moments is not None and world.client.moments is not None
  )
  if form == 'moments' and not possible:
    raise ValueError(
      'Expected a distance and a client with moments for form="moments"; got '
      f'net={world.net.spec.name}; use form="explicit"'
    )
  return possible and form != 'explicit'
