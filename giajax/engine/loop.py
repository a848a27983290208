"""The steps of one part, in pieces of about a second, saved and resumable."""

from collections.abc import Sequence
import logging
import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from giajax import types
from giajax.engine import checkpoint
from giajax.engine import hooks as hook_library
from giajax.engine import mesh
from giajax.engine import program as programs
from giajax.engine import signals
from giajax.engine import together
from giajax.engine import workdir

# The seconds that a piece lasts, about: a signal is answered after it.
_PIECE_SECONDS = 1.0
_log = logging.getLogger('giajax')


class Job(NamedTuple):
  """A part, ready to run.

  Attributes:
    program: the compiled program.
    inputs: (message, obs, hp, seeds), global arrays.
    items: the number of items N, without padding.
    restarts: the number of restarts R, without padding.
    steps: the number of steps T.
    marks: the steps at which the objective is recorded, [L].
    saved: the folder of checkpoints.
    owner: what the checkpoints belong to.
    save_seconds: the seconds between two checkpoints.
  """

  program: programs.Program
  inputs: tuple[Any, Any, Any, Any]
  items: int
  restarts: int
  steps: int
  marks: np.ndarray
  saved: pathlib.Path
  owner: str
  save_seconds: float


class Outcome(NamedTuple):
  """The outcome of a part: host arrays without padding."""

  final: types.Reconstruction  # [N, R]
  start: types.Reconstruction  # [N, R]
  finite: np.ndarray  # [N, R] bool
  trace: np.ndarray  # [N, R, L] float32
  # spent on steps and on reading `final`, over all processes that worked on it,
  # without compilation
  seconds: float


class _Position(NamedTuple):
  """Where a part stands."""

  step: int
  carry: programs.Carry
  trace: np.ndarray
  seconds: float


def marks(steps: int, records: int) -> np.ndarray:
  """Returns the steps after which the objective is recorded, [L] int32."""
  count = min(records, steps)
  return np.round(np.linspace(0, steps, count + 1)[1:]).astype(np.int32)


def run(
  job: Job, hooks: Sequence[hook_library.Hook], stop: signals.Stop
) -> Outcome:
  """Runs a part to its end, from where it was saved.

  Raises:
    ValueError: the workdir cannot be written.
    Interrupted: the process was asked to stop; everything is saved.
  """
  carry = job.program.init(*job.inputs)
  start, reading = _read(job, carry)
  final = start  # a closed form's
  trace = np.zeros((job.items, job.restarts, len(job.marks)), np.float32)
  end = _Position(0, carry, trace, 0.0)
  if job.steps:
    with stop.saving():
      end = _restored(job, end)
      with checkpoint.manager(job.saved) as opened:
        end = _steps(job, end, opened, hooks, stop)
    final, reading = _read(job, end.carry)
  finite = _fetch(job, end.carry.alive) & np.isfinite(final.score)
  return Outcome(final, start, finite, end.trace, end.seconds + reading)


def _read(job, carry) -> tuple[types.Reconstruction, float]:
  """Returns what the attack finds, on the host, and the seconds it took."""
  message, obs, hp, _ = jax.block_until_ready(job.inputs)
  carry = jax.block_until_ready(carry)
  began = time.perf_counter()
  result = jax.block_until_ready(job.program.read(message, obs, hp, carry))
  seconds = together.agreed((time.perf_counter() - began,))[0]
  return _fetch(job, result), float(seconds)


def _steps(job, position, opened, hooks, stop) -> _Position:
  step, carry, trace, before = position
  began = last_save = time.perf_counter()
  saved, piece = step, 1
  while True:
    now = time.perf_counter()
    here = _Position(step, carry, trace, before + now - began)
    # What follows the last step may be stopped at any moment.
    wait = job.save_seconds if step < job.steps else _PIECE_SECONDS
    asked, due = together.agreed((stop.asked, now - last_save >= wait)) > 0
    if (asked or due) and step > saved:
      checkpoint.save(opened, _host(job, here), job.owner)
      last_save, saved = time.perf_counter(), step
    if asked:
      checkpoint.wait(opened)
      raise signals.Interrupted(
        f'stopped and saved at step {step} of {job.steps}'
      )
    if step == job.steps:
      return here
    mark = int(np.searchsorted(job.marks, step, side='right'))
    until = int(min(step + piece, job.marks[mark]))
    carry, loss, seconds = _advance(job, carry, step, until)
    if until - step == piece:
      piece = _next_piece(piece, seconds)
    step = until
    if step == job.marks[mark]:
      trace[:, :, mark] = loss
    _call(hooks, _status(job, carry, loss, step, began))


def _advance(job, carry, step, until):
  """Returns the carry, its objective on the host, and the seconds it took."""
  where = job.program.where
  began = time.perf_counter()
  bounds = mesh.put((np.int32(step), np.int32(until)), where, mesh.P())
  carry = job.program.chunk(*job.inputs, carry, *bounds)
  loss = _fetch(job, carry.loss)
  seconds = together.agreed((time.perf_counter() - began,))[0]
  return carry, loss, float(seconds)


def _next_piece(piece: int, seconds: float) -> int:
  if seconds > _PIECE_SECONDS:
    return max(1, piece // 2)
  return 2 * piece if seconds < _PIECE_SECONDS / 2 else piece


def _restored(job, fresh: _Position) -> _Position:
  """Returns the state in the last checkpoint, or `fresh`."""
  axes = job.items, job.restarts
  like = [
    jax.ShapeDtypeStruct((*axes, *leaf.shape[2:]), leaf.dtype)
    for leaf in jax.tree.leaves(fresh.carry)
  ]
  tree = checkpoint.restore(job.saved, job.owner, _tree(like, fresh))
  if tree is None:
    return fresh
  step = int(tree['step'])
  if not 0 <= step <= job.steps:
    raise ValueError(
      f'Expected a checkpoint of step 0 to {job.steps}; got step {step} in '
      f'{job.saved}; remove it, or choose another --workdir'
    )
  leaves, treedef = jax.tree.flatten(mesh.fetch(fresh.carry))
  for i, leaf in enumerate(leaves):
    leaves[i] = leaf = np.array(leaf)
    leaf[: job.items, : job.restarts] = tree['leaves'][str(i)]
  where = job.program.where
  both = mesh.P(mesh.ITEM, mesh.RESTART)
  carry = mesh.put(jax.tree.unflatten(treedef, leaves), where, both)
  _log.info('continuing at step %d of %d', step, job.steps)
  trace = np.array(tree['trace'])
  return _Position(step, carry, trace, float(tree['seconds']))


def _host(job, position: _Position) -> dict[str, Any]:
  """Returns what is saved; copies, as the carry will be donated."""
  leaves = jax.tree.leaves(_fetch(job, position.carry))
  return _tree([np.array(leaf) for leaf in leaves], position)


def _tree(leaves: Sequence[Any], position: _Position) -> dict[str, Any]:
  """Returns a position as it is saved, with such leaves of its carry."""
  return {
    'leaves': checkpoint.numbered(leaves),
    'trace': position.trace.copy(),
    'step': np.asarray(position.step, np.int64),
    'seconds': np.asarray(position.seconds, np.float64),
  }


def _fetch(job, tree):
  """Returns host arrays of what has axes [N, R], without padding."""
  return jax.tree.map(
    lambda leaf: leaf[: job.items, : job.restarts], mesh.fetch(tree)
  )


def _call(hooks, status) -> None:
  try:
    for hook in hooks:
      hook(status)
  except OSError as error:
    folder = pathlib.Path(error.filename or 'standard error')
    raise workdir.unwritable(folder, error) from error


def _status(job, carry, loss, step, began) -> hook_library.Status:
  alive = _fetch(job, carry.alive)
  return hook_library.Status(
    step=step,
    steps=job.steps,
    alive=int(alive.sum()),
    restarts=alive.size,
    best=float(np.min(loss)),
    seconds=time.perf_counter() - began,
  )
