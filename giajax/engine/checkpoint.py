"""Saving and restoring a running attack: the only user of Orbax.

Orbax's step is the number of the chunk, which advances by one; a half-written
checkpoint never counts. What a checkpoint belongs to is its folder.
"""

from collections.abc import Iterator
import contextlib
import pathlib
import shutil
from typing import Any

import jax
import orbax.checkpoint as ocp


@contextlib.contextmanager
def manager(folder: pathlib.Path) -> Iterator[ocp.CheckpointManager]:
  """Opens the checkpoints of one program; waits for saves in flight."""
  options = ocp.CheckpointManagerOptions(
    max_to_keep=2,
    cleanup_tmp_directories=True,
    enable_async_checkpointing=True,
  )
  opened = ocp.CheckpointManager(folder.absolute(), options=options)
  try:
    yield opened
  finally:
    opened.wait_until_finished()
    opened.close()


def save(
  opened: ocp.CheckpointManager, chunk: int, state: Any, trace: Any
) -> None:
  """Saves in the background.

  Args:
    opened: from `manager`.
    chunk: chunks done.
    state: the carry, global arrays.
    trace: [N, R, L] host array.
  """
  opened.save(
    chunk,
    args=ocp.args.Composite(
      state=ocp.args.StandardSave({'leaves': _numbered(state)}),
      trace=ocp.args.StandardSave({'trace': trace}),
    ),
    force=True,
  )


def restore(
  opened: ocp.CheckpointManager, state: Any, trace: Any
) -> tuple[int, Any, Any]:
  """Returns (chunks done, carry, trace) of the last whole checkpoint.

  Args:
    opened: from `manager`.
    state: the initial carry, for structure and sharding; returned with 0
      chunks where there is no checkpoint.
    trace: the initial trace.
  """
  chunk = opened.latest_step()
  if chunk is None:
    return 0, state, trace
  abstract = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=leaf.sharding
    ),
    state,
  )
  found = opened.restore(
    chunk,
    args=ocp.args.Composite(
      state=ocp.args.StandardRestore({'leaves': _numbered(abstract)}),
      trace=ocp.args.StandardRestore({'trace': trace}),
    ),
  )
  leaves = found['state']['leaves']
  treedef = jax.tree.structure(state)
  ordered = [leaves[str(i)] for i in range(treedef.num_leaves)]
  return chunk, jax.tree.unflatten(treedef, ordered), found['trace']['trace']


def remove(folder: pathlib.Path) -> None:
  """Removes the checkpoints of a program that has ended."""
  shutil.rmtree(folder, ignore_errors=True)


def _numbered(tree: Any) -> dict[str, Any]:
  return {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(tree))}
