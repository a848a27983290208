"""The compiled part: init, a chunk of steps, and the read-out of N x R runs.

Items are looped over on a CPU, where one item's restarts fill the cores, and
vmapped elsewhere; restarts are vmapped in batches. Loop bounds are traced, so
that one compilation serves every chunk.
"""

from collections.abc import Callable
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import keys
from giajax import trees
from giajax import types
from giajax.attacks import base as attacks
from giajax.engine import mesh
from giajax.models import structure
from giajax.ops import hoisting

# What one device may hold of activations of restarts that run together. On a
# CPU larger batches leave the caches and gain nothing.
_BUDGET = {'cpu': 400e6, 'gpu': 16e9, 'tpu': 4e9}
# Activations that a matching step keeps, in units of one forward pass.
_COPIES = 16


class Carry(NamedTuple):
  """One restart of one item."""

  state: Any  # the attack's
  alive: types.Array  # [] bool; a non-finite restart is frozen
  loss: types.Array  # [] float32, the last finite objective


class Program(NamedTuple):
  """Jitted functions of global arrays.

  Attributes:
    init: `(query, seen, hp, seeds) -> Carry [N, R]`.
    chunk: `(query, seen, hp, seeds, carry, t0, t1) -> Carry`; the carry is
      donated.
    read: `(query, seen, hp, carry) -> Reconstruction [N, R]`.
    where: the layout.
  """

  init: Any
  chunk: Any
  read: Any
  where: mesh.Layout


def restarts_per_batch(world: attacks.World) -> int:
  """Returns how many restarts fit one device at once."""
  if world.net.probe is None:
    per_image = 64 * math.prod(world.net.spec.image_shape)
  else:
    per_image = sum(
      math.prod(site.input.shape) for site in structure.sites(world.net).values()
    )
  needed = 4 * _COPIES * per_image * world.batch_size
  budget = _BUDGET.get(jax.default_backend(), _BUDGET['gpu'])
  return max(1, min(1024, int(budget / needed)))


def program(attack: attacks.Attack, where: mesh.Layout) -> Program:
  """Returns the compiled part of an experiment.

  Args:
    attack: what to run.
    where: how items and restarts lie on devices.
  """
  item, both = mesh.P(mesh.ITEM), mesh.P(mesh.ITEM, mesh.RESTART)
  none = mesh.P()
  width = where.restarts_per_batch
  over_items = _mapped if jax.default_backend() == 'cpu' else _vmapped

  def init(query, seen, hp, seeds):
    def restart(obs, hp, seed):
      key = keys.named(_key(seed), 'init')
      state = jax.tree.map(_strong, attack.init(key, obs, hp))
      return Carry(state, jnp.bool_(True), jnp.full((), jnp.inf, jnp.float32))

    return over_items(restart, query, seen, hp, (seeds,), width)

  def chunk(query, seen, hp, seeds, carry, t0, t1):
    def restart(obs, hp, seed, carry):
      body = lambda t, c: _step(attack, _key(seed), t, c, obs, hp)
      body = hoisting.hoist(body, t0, carry)
      return jax.lax.fori_loop(t0, t1, body, carry)

    return over_items(restart, query, seen, hp, (seeds, carry), width)

  def read(query, seen, hp, carry):
    restart = lambda obs, hp, carry: attack.read(carry.state, obs, hp)
    return over_items(restart, query, seen, hp, (carry,), width)

  return Program(
    mesh.shard(init, where, (none, item, item, both), both),
    mesh.shard(
      chunk, where, (none, item, item, both, both, none, none), both, (4,)
    ),
    mesh.shard(read, where, (none, item, item, both), both),
    where,
  )


def seeds(
  seed: int, cases: list[int], controls: list[bool], where: mesh.Layout
) -> np.ndarray:
  """Returns the key data of each restart, [N, R, ...] uint32, by identity."""
  root = keys.named(jax.random.key(seed), 'attack')
  control_root = keys.named(root, 'control')
  pad = where.items - len(cases)
  rows = [*zip(cases, controls), *([(cases[-1], controls[-1])] * pad)]
  restarts = jnp.arange(where.restarts)
  drawn = [
    jax.vmap(lambda r, k=keys.at(control_root if c else root, case): (
      jax.random.key_data(jax.random.fold_in(k, r))
    ))(restarts)
    for case, c in rows
  ]
  return np.stack([np.asarray(row) for row in drawn])


def _step(attack, key, t, carry, obs, hp):
  new, info = attack.step(jax.random.fold_in(key, t), carry.state, obs, hp)
  alive = carry.alive & info.finite
  return Carry(
    trees.where(alive, new, carry.state),
    alive,
    jnp.where(alive, info.loss, carry.loss),
  )


def _mapped(
  restart: Callable[..., Any],
  query: types.Query,
  seen: Any,
  hp: Any,
  each: tuple[Any, ...],
  width: int,
) -> Any:
  """Items one after the other, restarts in batches of `width`."""

  def one(args):
    (update, side), hp, each = args
    obs = types.Observation(query, update, side)
    return jax.lax.map(
      lambda e: restart(obs, hp, *e), each, batch_size=width
    )

  return jax.lax.map(one, (seen, hp, each))


def _vmapped(restart, query, seen, hp, each, width):
  """Items together, restarts in batches of `width`."""

  def one(seen, hp, each):
    obs = types.Observation(query, *seen)
    return jax.lax.map(
      lambda e: restart(obs, hp, *e), each, batch_size=width
    )

  return jax.vmap(one)(seen, hp, each)


def _key(seed: types.Array) -> types.Array:
  return jax.random.wrap_key_data(seed)


def _strong(leaf: types.Array) -> types.Array:
  """Drops weak types: a Python number in a state would compile twice."""
  return jax.lax.convert_element_type(leaf, jnp.asarray(leaf).dtype)
