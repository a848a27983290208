"""Optimisation attacks: change a candidate until its update matches.

  minimise over v:  m D(client(batch(v)), observed) + sum_k w_k term_k(batch(v))

for a variable v, a distance D and terms that say what images look like; m and
w_k are weights. One function builds the whole family; presets (`dlg`,
`inverting_gradients`, ...) are short calls of it.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from giajax import keys
from giajax import require
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import compose
from giajax.attacks.parts import distances
from giajax.attacks.parts import optimizers
from giajax.attacks.parts import variables
from giajax.models import inspect
from giajax.ops import fusion_barrier
from giajax.priors import base as priors

FORMS = ('auto', 'moments', 'explicit')


class State(NamedTuple):
  """Where one restart stands."""

  variable: Any  # the tree that `Variable.init` returned
  optimizer: Any


def match(
  world: worlds.World,
  *,
  variable: variables.Variable,
  distance: str | distances.Distance,
  optimizer: optax.GradientTransformation,
  num_steps: int,
  learning_rate: float = 1.0,
  terms: Mapping[str, tuple[float, priors.Term]] | None = None,
  matching: float | None = None,
  keep_best: bool = True,
  form: str = 'auto',
) -> base.Attack:
  """An attack that optimises a variable until its update matches.

  Its knobs, which are traced, are `learning_rate`, one weight per term under
  the term's name, `matching` where it is given, and those of the variable.

  Args:
    world: the attacker's picture of the system.
    variable: what is optimised.
    distance: a name in `DISTANCES` or a Distance.
    optimizer: maps gradients to updates of unit learning rate; may use
      `value`, `grad` and `value_fn` as optax's line searches do, the step's
      `key`, and `hp`.
    num_steps: the number of steps T >= 1.
    learning_rate: the factor of every update, > 0; traced.
    terms: `{name: (weight, prior)}`; the weights are traced.
    matching: the weight of the distance; traced. None for a weight of 1 and no
      knob.
    keep_best: whether to read the iterate of lowest objective instead of the
      last one.
    form: 'explicit' forms the candidate's update; 'moments' matches without
      forming it; 'auto' does the latter where the distance and the client allow
      it.

  Raises:
    ValueError: a number outside its range, a term whose name is taken, an
      unknown form, or form='moments' where it is impossible. While it is
      traced: a candidate's update with other leaves or shapes than the observed
      one.
  """
  require.whole(
    num_steps, 'num_steps', advice='without steps it would return its start'
  )
  require.one_of(form, 'form', FORMS)
  hparams = _knobs(variable, learning_rate, terms or {}, matching)
  beliefs = {name: prior for name, (_, prior) in (terms or {}).items()}
  chosen = distances.lookup(distance)
  parts = _objective_parts(world, variable, chosen, beliefs, form)
  optimizer = optax.with_extra_args_support(optimizer)

  def objective(tree, key, obs, hp):
    values = parts(key, tree, obs)
    loss = values['matching'] * hp.get('matching', 1.0)
    for name in beliefs:
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

  attack = base.Attack(
    craft=base.honest,
    init=init,
    step=step,
    read=read,
    num_steps=num_steps,
    num_rounds=1,
    hparams=hparams,
    needs=variable.needs.union(
      _needs(world), *(prior.needs for prior in beliefs.values())
    ),
    group=any(prior.group for prior in beliefs.values()),
  )
  return compose.keep_best(attack) if keep_best else attack


def match_by_lbfgs(
  world: worlds.World,
  *,
  variable: variables.Variable,
  num_steps: int,
  memory_size: int,
  max_linesearch_steps: int,
  terms: Mapping[str, tuple[float, priors.Term]] | None = None,
) -> base.Attack:
  """An attack on the squared gradient difference, by L-BFGS.

  The form is explicit: near the solution, where L-BFGS ends, moments would
  subtract numbers that are far larger than the distance.

  Args:
    world: the attacker's picture of the system.
    variable: see `match`.
    num_steps: the number of L-BFGS iterations.
    memory_size: see `optimizers.lbfgs`.
    max_linesearch_steps: see `optimizers.lbfgs`.
    terms: see `match`.

  Raises:
    ValueError: see `match` and `optimizers.lbfgs`.
  """
  return match(
    world,
    variable=variable,
    distance='l2',
    terms=terms,
    optimizer=optimizers.lbfgs(memory_size, max_linesearch_steps),
    num_steps=num_steps,
    form='explicit',
  )


def _knobs(
  variable: variables.Variable,
  learning_rate: float,
  terms: Mapping[str, tuple[float, priors.Term]],
  matching: float | None,
) -> dict[str, float]:
  """Returns the default values of all traced knobs."""
  require.positive(
    learning_rate, 'learning_rate', advice='steps go downhill already: use 0.1'
  )
  knobs = {'learning_rate': learning_rate, **variable.hparams}
  if matching is not None:
    knobs['matching'] = matching
  for name, (weight, _) in terms.items():
    if name in ('matching', *knobs):
      raise ValueError(
        f'Expected terms of names that no other knob has; got a term {name!r}; '
        'rename it'
      )
    knobs[name] = weight
  for name, value in knobs.items():
    require.finite(value, name)
  return knobs


def _objective_parts(
  world: worlds.World,
  variable: variables.Variable,
  distance: distances.Distance,
  beliefs: Mapping[str, priors.Term],
  form: str,
) -> Callable[..., dict[str, types.Array]]:
  """Returns `(key, tree, obs) -> {name: []}`, the unweighted objective."""
  use_moments = _use_moments(form, distance, world)
  taps = tuple(dict.fromkeys(t for p in beliefs.values() for t in p.taps))

  def parts(key, tree, obs):
    batch = variable.batch(tree, obs)
    target = obs.update.delta
    if use_moments:
      distances.require_alike(obs.message.variables.params, target)
      products, aux = world.client.moments(  # pyrefly: ignore
        key, obs.message, batch, target, taps
      )
      values = {'matching': distance.on_moments(products)}  # pyrefly: ignore
    else:
      update, aux = world.client.update(key, obs.message, batch, taps)
      values = {'matching': distance.on_gradients(update.delta, target)}
    for name, prior in beliefs.items():
      values[name] = prior.value(keys.named(key, name), batch, aux, obs)
    return values

  return parts


def _needs(world: worlds.World) -> frozenset[str]:
  """The candidate's forward pass, with the buffers that it reads."""
  buffers = not world.client.train_mode and inspect.has_batch_norm(world.net)
  needs = {'model', 'batch_size'}
  return frozenset(needs | {'bn_buffers_before'} if buffers else needs)


def _use_moments(
  form: str, distance: distances.Distance, world: worlds.World
) -> bool:
  possible = (
    distance.on_moments is not None and world.client.moments is not None
  )
  if form == 'moments' and not possible:
    raise ValueError(
      'Expected a distance and a client with moments for form="moments"; got '
      f'net={world.net.spec.name}; use form="explicit"'
    )
  return possible and form != 'explicit'
