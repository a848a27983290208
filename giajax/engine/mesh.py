"""Items x restarts over devices, without a collective.

`jit` with sharded inputs, and `shard_map` with its default checks, give wrong
gradients for programs like these; `shard_map(check_vma=False)` over a mesh of
independent items and restarts does not.
"""

from collections.abc import Callable, Sequence
import math
from typing import Any, NamedTuple

import jax
from jax.experimental import multihost_utils
import numpy as np

P = jax.sharding.PartitionSpec
ITEM, RESTART = 'item', 'restart'


class Layout(NamedTuple):
  """How an array of [items, restarts] lies on devices and in batches."""

  mesh: jax.sharding.Mesh
  items: int  # padded to a multiple of the mesh's items
  restarts: int  # padded in the same way, and to whole batches
  restarts_per_batch: int  # vmapped together on one device


def layout(
  items: int,
  restarts: int,
  restarts_per_batch: int,
  devices: Sequence[jax.Device] | None = None,
  *,
  together: bool = False,
) -> Layout:
  """Returns the fastest layout, on as few devices as that needs.

  Args:
    items: the number of items N >= 1.
    restarts: the number of restarts R >= 1.
    restarts_per_batch: the largest number of restarts that are vmapped
      together.
    devices: the devices; by default, all devices of all processes.
    together: whether all restarts of an item form one batch, on one device.
  """
  devices = list(jax.devices() if devices is None else devices)
  # One process may leave devices idle; many have to use all of theirs.
  total = len(devices)
  counts = [total] if jax.process_count() > 1 else range(1, total + 1)
  grids = [(d, n // d) for n in counts for d in range(1, n + 1) if n % d == 0]
  if together:
    restarts_per_batch = restarts
    grids = [(across, down) for across, down in grids if down == 1]

  def padded(across: int, down: int) -> tuple[int, int, int]:
    rows, columns = -(-items // across), -(-restarts // down)
    batches = -(-columns // restarts_per_batch)
    width = -(-columns // batches)
    return across * rows, down * batches * width, width

  def cost(grid: tuple[int, int]) -> tuple[float, int, int]:
    n, r, _ = padded(*grid)
    used = math.prod(grid)
    return n * r / used, used, -grid[0]

  across, down = min(grids, key=cost)
  n, r, width = padded(across, down)
  grid = np.array(devices[: across * down]).reshape(across, down)
  return Layout(jax.sharding.Mesh(grid, (ITEM, RESTART)), n, r, width)


def describe(where: Layout) -> str:
  """Returns in words how the restarts of one item lie on devices."""
  devices = where.mesh.shape[RESTART]
  noun = 'device' if devices == 1 else 'devices'
  return f'{devices} {noun}, {where.restarts_per_batch} together'


def shard(
  function: Callable[..., Any],
  where: Layout,
  in_specs: Any,
  out_specs: Any,
  donate: tuple[int, ...] = (),
) -> Any:
  """Returns a jitted function whose devices never talk to each other."""
  mapped = jax.shard_map(
    function,
    mesh=where.mesh,
    in_specs=in_specs,
    out_specs=out_specs,
    check_vma=False,
  )
  return jax.jit(mapped, donate_argnums=donate)


def put(tree: Any, where: Layout, spec: Any) -> Any:
  """Returns global arrays made of the same host arrays in every process."""
  sharding = jax.sharding.NamedSharding(where.mesh, spec)

  def one(leaf):
    leaf = np.asarray(leaf)
    return jax.make_array_from_callback(
      leaf.shape, sharding, lambda index: leaf[index]
    )

  return jax.tree.map(one, tree)


def fetch(tree: Any) -> Any:
  """Returns host arrays of global ones, in every process."""
  if jax.process_count() == 1:
    return jax.tree.map(np.asarray, tree)
  return multihost_utils.process_allgather(tree, tiled=True)
