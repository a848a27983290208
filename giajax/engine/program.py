"""The compiled part: init, a chunk of steps, and the read-out of N x R runs.

Items are looped over on a CPU, where one item's restarts fill the cores, and
vmapped elsewhere; restarts are vmapped in batches. Loop bounds are traced, so
that one compilation serves every chunk.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import math
import os
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import keys
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base as attacks
from giajax.engine import mesh
from giajax.models import base as models
from giajax.models import inspect
from giajax.ops import loop_invariants

# On a CPU the largest layer input of a batch of restarts, and its patches,
# should stay in a core's cache, but a pass over the weights should serve
# activations of the same size; `launch.benchmark --restarts=R` shows what
# another choice costs.
_CACHE_BYTES = 2**18
_CPU_RESTARTS = 8
_ACCELERATOR_RESTARTS = 1024
# Memory is a limit everywhere: a matching step keeps each activation about this
# many times, and may take half of what there is.
_COPIES = 16
_GRADIENTS = 3  # copies, of distances that form a gradient of the weights
_NO_MEMORY = 'RESOURCE_EXHAUSTED'  # how JAX's error begins
_SMALL_DEVICE_BYTES = 4e9  # of devices that do not say how much they have


class Carry(NamedTuple):
  """One restart of one item."""

  state: Any  # the attack's
  alive: types.Array  # [] bool; no step so far was non-finite
  loss: types.Array  # [] float32, the last finite objective


class Program(NamedTuple):
  """Functions of global arrays, jitted or compiled.

  Attributes:
    init: `(message, obs, hp, seeds) -> Carry [N, R]`. The message is shared
      and `obs` is Observations without one (`types.NO_MESSAGE`), or the other
      way round.
    chunk: `(message, obs, hp, seeds, carry, t0, t1) -> Carry`; the carry is
      donated. None for an attack without steps.
    read: `(message, obs, hp, carry) -> Reconstruction [N, R]`.
    where: the layout.
    seconds: the seconds that the compilation took.
  """

  init: Any
  chunk: Any
  read: Any
  where: mesh.Layout
  seconds: float = 0.0


def restarts_per_batch(world: worlds.World) -> int:
  """Returns how many restarts run best together on one device."""
  if jax.default_backend() != 'cpu':
    return min(_ACCELERATOR_RESTARTS, fitting(world))
  inputs = _inputs(world)
  weights = models.count(inspect.abstract_variables(world.net))
  amortising = -(-weights // (sum(inputs) * world.batch_size))
  cached = _CACHE_BYTES // (4 * max(inputs) * world.batch_size)
  fastest = min(_CPU_RESTARTS, max(cached, amortising))
  return max(1, min(fastest, fitting(world)))


def check_restarts(world: worlds.World, restarts: int) -> None:
  """Raises ValueError for restarts whose images alone exceed the memory."""
  pixels = math.prod(world.net.spec.image_shape) * world.batch_size
  _require_memory(4 * pixels * restarts, f'restarts={restarts}')


@contextlib.contextmanager
def memory() -> Iterator[None]:
  """Turns memory that cannot be had into one line.

  Raises:
    ValueError: it cannot be had.
  """
  try:
    yield
  except (MemoryError, jax.errors.JaxRuntimeError) as error:
    text = str(error)
    if not isinstance(error, MemoryError) and _NO_MEMORY not in text:
      raise
    raise ValueError(
      f'Expected work that fits into the memory; got {text[:200]!r}; lower '
      'restarts, the size of batches, or that of the network or its images'
    ) from error


def items_together(world: worlds.World, restarts: int) -> int | None:
  """Returns how many items all devices hold at once.

  None for any number, where items run one after the other.

  Args:
    world: what the attacker believes of each of them.
    restarts: the number of restarts of an item.
  """
  if jax.default_backend() == 'cpu':
    return None
  width = min(restarts, restarts_per_batch(world))
  return max(1, fitting(world) // width) * jax.device_count()


def fitting(world: worlds.World) -> int:
  """Returns how many restarts' steps one device holds at once, at least 1."""
  size = 4 * _COPIES * sum(_inputs(world)) * world.batch_size
  if jax.default_backend() != 'cpu':
    size += 4 * _GRADIENTS * models.count(inspect.abstract_variables(world.net))
  return max(1, int(_device_bytes() / size))


def program(
  attack: attacks.Attack, where: mesh.Layout, products: str = 'highest'
) -> Program:
  """Returns the compiled part of an experiment.

  Args:
    attack: what to run.
    where: how items and restarts lie on devices.
    products: the precision of matrix products whose code asks for none, as
      `jax.default_matmul_precision` takes it.
  """
  item, both = mesh.P(mesh.ITEM), mesh.P(mesh.ITEM, mesh.RESTART)
  none = mesh.P()
  width = where.restarts_per_batch
  over_items = _mapped if jax.default_backend() == 'cpu' else _vmapped

  def init(message, obs, hp, seeds):
    def restart(obs, hp, seed):
      key = keys.named(_key(seed), 'init')
      state = trees.strong(attack.init(key, obs, hp))
      infinite = jnp.asarray(jnp.inf, jnp.result_type(float))
      return Carry(state, jnp.bool_(True), infinite)

    return over_items(_each(restart), message, obs, hp, (seeds,), width)

  def chunk(message, obs, hp, seeds, carry, t0, t1):
    def restarts(obs, hp, seeds, carry):
      def step(t, seed, carry):
        return _step(attack, _key(seed), t, carry, obs, hp)

      # Restarts are vmapped inside the loop: JAX would trace the body of a
      # vmapped loop again and again to find out what is batched.
      def body(t, carry):
        among = jax.vmap(step, (None, 0, 0), axis_name=worlds.RESTARTS)
        return among(t, seeds, carry)

      return jax.lax.fori_loop(
        t0, t1, loop_invariants.precompute(body, t0, carry), carry
      )

    return over_items(restarts, message, obs, hp, (seeds, carry), width)

  def read(message, obs, hp, carry):
    def restart(obs, hp, carry):
      return attack.read(carry.state, obs, hp)

    return over_items(_each(restart), message, obs, hp, (carry,), width)

  init, chunk, read = (
    jax.default_matmul_precision(products)(part) for part in (init, chunk, read)
  )
  chunk_specs = (none, item, item, both, both, none, none)
  steps = attack.num_steps > 0
  return Program(
    mesh.shard(init, where, (none, item, item, both), both),
    mesh.shard(chunk, where, chunk_specs, both, (4,)) if steps else None,
    mesh.shard(read, where, (none, item, item, both), both),
    where,
  )


def compiled(
  jitted: Program,
  message: types.ServerMessage,
  obs: types.Observation,
  hp: types.HParams,
  seeds: types.Array,
) -> Program:
  """Compiles a program for arguments of certain shapes.

  Args:
    jitted: the functions that `program` returned.
    message: what its functions will be called with, like the others.
    obs: observations, [N, ...].
    hp: traced knobs, [N].
    seeds: the key data of the restarts, [N, R, ...].

  Raises:
    ValueError: a state of the attack that exceeds the memory.
  """
  began = time.perf_counter()
  where = jitted.where
  bound = mesh.put(np.int32(0), where, mesh.P())
  init = jitted.init.lower(message, obs, hp, seeds)
  carry = init.out_info
  size = sum(
    math.prod(leaf.shape) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(carry)
  )
  updates, restarts = seeds.shape[:2]
  _require_memory(size, f'{updates} updates with restarts={restarts}')
  init = init.compile()
  read = jitted.read.lower(message, obs, hp, carry).compile()
  chunk = jitted.chunk
  if chunk is not None:
    arguments = (message, obs, hp, seeds, carry, bound, bound)
    chunk = chunk.lower(*arguments).compile()
  return Program(init, chunk, read, where, time.perf_counter() - began)


def seeds(
  seed: int,
  cases: Sequence[int],
  controls: Sequence[bool],
  where: mesh.Layout,
) -> np.ndarray:
  """Returns the key data of each restart, [N, R, ...] uint32, by identity."""
  root = keys.named(jax.random.key(seed), 'attack')
  roots = jnp.stack([root, keys.named(root, 'control')])
  pad = where.items - len(cases)
  case = jnp.asarray([*cases, *[cases[-1]] * pad])
  control = jnp.asarray([*controls, *[controls[-1]] * pad], int)
  restart_keys = _draw(roots[control], case, jnp.arange(where.restarts))
  return np.asarray(jax.random.key_data(restart_keys))


@jax.jit
def _draw(roots, cases, restarts):
  over_restarts = jax.vmap(keys.at, in_axes=(None, None, 0))
  return jax.vmap(over_restarts, in_axes=(0, 0, None))(roots, cases, restarts)


def _step(attack, key, t, carry, obs, hp):
  new, info = attack.step(jax.random.fold_in(key, t), carry.state, obs, hp)
  alive = carry.alive & info.finite
  loss = info.loss.astype(carry.loss.dtype)
  return Carry(new, alive, jnp.where(alive, loss, carry.loss))


def _each(restart: Callable[..., Any]) -> Callable[..., Any]:
  """Turns a function of one restart into a function of a batch of restarts."""

  def restarts(obs, hp, *each):
    among = jax.vmap(lambda e: restart(obs, hp, *e), axis_name=worlds.RESTARTS)
    return among(each)

  return restarts


def _mapped(
  restarts: Callable[..., Any],
  message: types.ServerMessage,
  obs: Any,
  hp: Any,
  each: tuple[Any, ...],
  width: int,
) -> Any:
  """Items one after the other, restarts in batches of `width`."""

  def one(args):
    obs, hp, each = args
    obs = _observed(message, obs)
    return _batches(lambda e: restarts(obs, hp, *e), each, width)

  return jax.lax.map(one, (obs, hp, each))


def _vmapped(restarts, message, obs, hp, each, width):
  """Items together, restarts in batches of `width`."""

  def one(obs, hp, each):
    obs = _observed(message, obs)
    return _batches(lambda e: restarts(obs, hp, *e), each, width)

  return jax.vmap(one)(obs, hp, each)


def _observed(message, obs: types.Observation) -> types.Observation:
  return obs._replace(message=message) if jax.tree.leaves(message) else obs


def _batches(function, each, width):
  """Maps a function of `width` entries over all; `width` divides them."""
  split = jax.tree.map(
    lambda a: a.reshape(len(a) // width, width, *a.shape[1:]), each
  )
  done = jax.lax.map(function, split)
  return jax.tree.map(
    lambda a: a.reshape(a.shape[0] * width, *a.shape[2:]), done
  )


def _inputs(world: worlds.World) -> list[int]:
  """Returns the size of each layer's input, for one image."""
  if world.net.probe is None:
    return [math.prod(world.net.spec.image_shape)] * 16
  sites = inspect.traced_sites(world.net).values()
  return [math.prod(site.input.shape) for site in sites]


def _device_bytes() -> float:
  """Returns half of the memory of one device."""
  if jax.default_backend() == 'cpu':  # the devices share the machine's
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return memory / 2 / jax.local_device_count()
  facts = jax.local_devices()[0].memory_stats() or {}
  return facts.get('bytes_limit', _SMALL_DEVICE_BYTES) / 2


def _require_memory(size: int, what: str) -> None:
  """Raises ValueError for arrays that all devices together cannot hold."""
  memory = 2 * _device_bytes() * jax.device_count()
  if size > memory:
    raise ValueError(
      f'Expected an attack that fits into {memory / 1e9:.0f} GB of memory; got '
      f'{what}, which take {size / 1e9:.0f} GB; lower restarts, the size of '
      'the images or what the attack remembers'
    )


def _key(seed: types.Array) -> types.Array:
  return jax.random.wrap_key_data(seed)
