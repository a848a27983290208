"""Optimisation attacks: change a candidate until its update matches.

  minimise over v:  m D(client(batch(v)), observed) + sum_k w_k term_k(batch(v))

for a variable v, a distance D and terms that say what images look like; m and
w_k are weights. One function builds the whole family; presets (`dlg`,
`inverting_gradients`, ...) are short calls of it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax import flatten_util
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
from giajax.attacks.parts import evolution
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


class Searched(NamedTuple):
  """Where one restart of a search stands."""

  variable: Any  # the best tree so far
  loss: types.Array  # [] its objective; float64 if that is enabled
  searches: Any  # of all images, [B, ...]
  count: types.Array  # [] int32, the steps taken


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
  require.positive(
    learning_rate, 'learning_rate', advice='steps go downhill already: use 0.1'
  )
  knobs = {'learning_rate': learning_rate}
  if matching is not None:
    knobs['matching'] = matching
  value = _objective(world, variable, distance, terms or {}, knobs, form)
  optimizer = optax.with_extra_args_support(optimizer)

  def init(key, obs, hp):
    tree = variable.init(key, obs, hp)
    # optax's line search starts from Python numbers.
    return State(tree, trees.strong(optimizer.init(tree)))

  def step(key, state, obs, hp):
    (loss, values), gradient = jax.value_and_grad(value.of, has_aux=True)(
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
      value_fn=lambda tree, key, hp: value.of(tree, key, obs, hp)[0],
      key=key,
      hp=hp,
    )
    rate = hp['learning_rate']
    tree = jax.tree.map(lambda v, u: v + rate * u, state.variable, updates)
    tree = variable.project(tree)
    finite = jnp.isfinite(loss) & trees.all_finite((tree, gradient))
    tree = trees.where(finite, tree, state.variable)
    return State(tree, memory), types.Info(loss, values, finite)

  attack = _attack(world, variable, value, init, step, num_steps)
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


def match_by_search(
  world: worlds.World,
  *,
  variable: variables.Variable,
  search: evolution.Search,
  distance: str | distances.Distance,
  evaluations: int,
  terms: Mapping[str, tuple[float, priors.Term]] | None = None,
  form: str = 'auto',
) -> base.Attack:
  """An attack that searches for a variable without gradients.

  Each image of the batch has a search of its own. A step evaluates a population
  for one image, all others being the best so far, and the images take turns.
  Its knobs are the weights of the terms and those of the variable. It reads the
  variable of the lowest objective.

  Args:
    world: the attacker's picture of the system.
    variable: what is searched for: float arrays [B, ...], one of each for each
      image. It begins as the variable does; the search does not.
    search: a search for as many numbers as the variable has for an image.
    distance: as in `match`.
    evaluations: the number of candidates whose objective is computed, at least
      a population; those that fill no population are left out.
    terms: as in `match`.
    form: as in `match`.

  Raises:
    ValueError: fewer evaluations than candidates in a population, a term whose
      name is taken, or an unknown form.
  """
  require.whole(
    evaluations,
    'evaluations',
    least=search.population,
    advice=f'a step takes a population of {search.population}',
  )
  value = _objective(world, variable, distance, terms or {}, {}, form)

  def init(key, obs, hp):
    tree = variable.init(key, obs, hp)
    each = jax.random.split(keys.named(key, 'search'), world.batch_size)
    infinite = jnp.asarray(jnp.inf, jnp.result_type(float))
    searches = jax.vmap(search.init)(each)
    return Searched(tree, infinite, searches, jnp.zeros((), jnp.int32))

  def step(key, state, obs, hp):
    image = state.count % world.batch_size
    own = _at(state.searches, image)
    candidates, asked = search.ask(keys.named(key, 'ask'), own)
    unravel = flatten_util.ravel_pytree(_at(state.variable, image))[1]

    def tree_of(candidate):
      return _put(state.variable, image, unravel(candidate))

    losses, values = jax.vmap(
      lambda candidate: value.of(tree_of(candidate), key, obs, hp)
    )(candidates)
    told = search.tell(keys.named(key, 'tell'), candidates, losses, asked)
    finite = jnp.isfinite(losses).all() & trees.all_finite(told)
    i = jnp.argmin(jnp.where(jnp.isfinite(losses), losses, jnp.inf))
    better = losses[i] < state.loss
    loss = losses[i].astype(state.loss.dtype)
    after = Searched(
      trees.where(better, tree_of(candidates[i]), state.variable),
      jnp.where(better, loss, state.loss),
      _put(state.searches, image, trees.where(finite, told, own)),
      state.count + 1,
    )
    return after, types.Info(losses[i], _at(values, i), finite)

  num_steps = evaluations // search.population
  return _attack(world, variable, value, init, step, num_steps)


def _at(tree: types.Tree, index: types.Array) -> types.Tree:
  return jax.tree.map(lambda leaf: leaf[index], tree)


def _put(tree: types.Tree, index: types.Array, one: types.Tree) -> types.Tree:
  return jax.tree.map(lambda leaf, new: leaf.at[index].set(new), tree, one)


class _Objective(NamedTuple):
  """What an attack minimises."""

  of: Callable[..., tuple[types.Array, dict[str, types.Array]]]
  score: Callable[..., types.Array]  # `(tree, obs) -> []`, by the distance
  hparams: Mapping[str, float]
  needs: frozenset[str]
  group: bool


def _objective(
  world: worlds.World,
  variable: variables.Variable,
  distance: str | distances.Distance,
  terms: Mapping[str, tuple[float, priors.Term]],
  knobs: Mapping[str, float],
  form: str,
) -> _Objective:
  """Returns `of(tree, key, obs, hp)`: the sum, and its parts unweighted."""
  require.one_of(form, 'form', FORMS)
  weighted = (variable.terms, terms)
  hparams = _knobs({**knobs, **variable.hparams}, weighted)
  beliefs = {name: prior for name, (_, prior) in terms.items()}
  chosen = distances.lookup(distance)
  parts = _objective_parts(world, variable, chosen, beliefs, form)
  names = [name for each in weighted for name in each]

  def of(tree, key, obs, hp):
    values = parts(key, tree, obs)
    loss = values['matching'] * hp.get('matching', 1.0)
    for name in names:
      loss = loss + hp[name] * values[name]
    return loss, values

  def score(tree, obs):
    # Clients that draw random numbers are scored with one fixed draw.
    return parts(jax.random.key(0), tree, obs)['matching']

  needs = variable.needs.union(
    _needs(world), *(prior.needs for prior in beliefs.values())
  )
  group = any(prior.group for prior in beliefs.values())
  return _Objective(of, score, hparams, needs, group)


def _attack(
  world: worlds.World,
  variable: variables.Variable,
  value: _Objective,
  init: Callable[..., Any],
  step: Callable[..., Any],
  num_steps: int,
) -> base.Attack:
  """Returns the attack of a state with a field `variable`."""

  def read(state, obs, hp):
    del hp
    batch = variable.batch(state.variable, obs)
    y = world.task.harden(batch.y)
    return types.Reconstruction(
      types.Batch(jnp.clip(batch.x, 0.0, 1.0), y),
      jnp.ones(world.batch_size, bool),
      value.score(state.variable, obs),
    )

  return base.Attack(
    craft=base.honest,
    init=init,
    step=step,
    read=read,
    num_steps=num_steps,
    num_rounds=1,
    hparams=value.hparams,
    needs=value.needs,
    group=value.group,
  )


def _knobs(
  knobs: Mapping[str, float],
  weighted: Sequence[Mapping[str, tuple[float, Any]]],
) -> dict[str, float]:
  """Returns the default values of all traced knobs."""
  every = dict(knobs)
  for terms in weighted:
    for name, (weight, _) in terms.items():
      if name in ('matching', *every):
        raise ValueError(
          'Expected terms of names that no other knob has; got a term '
          f'{name!r}; rename it'
        )
      every[name] = weight
  for name, weight in every.items():
    require.finite(weight, name)
  return every


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
    for name, (_, term) in variable.terms.items():
      values[name] = term(tree)
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
