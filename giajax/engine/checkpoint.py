"""Saving and restoring a running attack: the only user of Orbax.

Orbax's step is the number of the save, which advances by one. A half-written
checkpoint never counts. Each carries what it belongs to and a checksum of its
arrays; one that is damaged, or another run's, is set aside and never deleted.
Arrays are saved without padding, so that a run continues on any number of
devices.
"""

from collections.abc import Iterable, Iterator, Mapping
import contextlib
import hashlib
import logging
import math
import os
import pathlib
import re
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from giajax import archives
from giajax import files
from giajax import trees
from giajax.engine import together
from giajax.engine import workdir

# What Orbax and tensorstore raise for a full disk or for torn files.
_FAILURES = (OSError, ValueError, KeyError, EOFError)
_OWNER, _SUM = 'owner', 'sum'  # leaves beside those of the caller
# What they raise besides for a checkpoint from elsewhere; RuntimeError for the
# name of a folder that is no UTF-8.
_FOREIGN = (AttributeError, TypeError, OverflowError, RuntimeError)
_OVERHEAD = 8192  # bytes on disk in addition to an array's own, about
_CODE = re.compile(r"os_error_code='(\d+)'")  # in tensorstore's messages
_log = logging.getLogger('giajax')


@contextlib.contextmanager
def manager(folder: pathlib.Path) -> Iterator[ocp.CheckpointManager]:
  """Opens the checkpoints of one part; waits for saves in flight.

  Raises:
    ValueError: the folder cannot be written.
  """
  options = ocp.CheckpointManagerOptions(
    max_to_keep=2,
    cleanup_tmp_directories=True,
    enable_async_checkpointing=True,
  )
  try:
    # Told what a checkpoint is made of, Orbax does not ask the newest one.
    opened = ocp.CheckpointManager(
      folder.absolute(),
      options=options,
      item_handlers=ocp.StandardCheckpointHandler(),
    )
  except OSError as error:
    raise workdir.unwritable(folder, error) from error
  try:
    yield opened
  finally:
    try:
      wait(opened)
    finally:
      opened.close()


def save(
  opened: ocp.CheckpointManager, tree: Mapping[str, Any], owner: str
) -> None:
  """Saves in the background.

  Args:
    opened: the manager that `manager` returned.
    tree: host arrays in nested dicts; none of them empty.
    owner: what the checkpoint belongs to.

  Raises:
    ValueError: the folder cannot be written, now or by the save before.
  """
  step = (opened.latest_step() or 0) + 1
  tree = {**tree, _OWNER: _digest(owner.encode()), _SUM: _sum(tree)}
  try:
    _reserve(pathlib.Path(str(opened.directory)), tree)
    opened.save(step, args=ocp.args.StandardSave(tree), force=True)
  except _FAILURES as error:
    raise _unwritable(opened, error) from error


def wait(opened: ocp.CheckpointManager) -> None:
  """Returns when everything is on disk.

  Raises:
    ValueError: the folder cannot be written.
  """
  try:
    opened.wait_until_finished()
  except _FAILURES as error:
    raise _unwritable(opened, error) from error


def restore(
  opened: ocp.CheckpointManager, owner: str
) -> Mapping[str, Any] | None:
  """Returns what the last whole checkpoint holds, None if there is none.

  Those that cannot be used are moved to a folder beside.

  Args:
    opened: the manager that `manager` returned.
    owner: what the checkpoint has to belong to.

  Raises:
    ValueError: the folder cannot be written.
  """
  for step in sorted(opened.all_steps(), reverse=True):
    tree, reason = _restored(opened, step, owner)
    # All processes of a run go on from the same one.
    if not together.agreed((reason != '',))[0]:
      return tree
    _log.warning('setting aside the checkpoint %d: %s', step, reason)
    if jax.process_index() == 0:
      parent = pathlib.Path(str(opened.directory))
      workdir.set_aside(parent / str(step), parent)
    together.agreed((0.0,))  # until it is moved
    opened.reload()
  return None


def _restored(
  opened: ocp.CheckpointManager, step: int, owner: str
) -> tuple[dict[str, Any], str]:
  """Returns the arrays of a checkpoint, and why they cannot be used."""
  try:
    tree = dict(opened.restore(step, args=ocp.args.StandardRestore()))
    own, checksum = (np.asarray(tree.pop(name)) for name in (_OWNER, _SUM))
  except _FAILURES as error:
    words = (str(error).strip() or type(error).__name__).splitlines()[0]
    return {}, f'it is damaged ({words})'
  tree = jax.tree.map(np.asarray, tree)
  if not np.array_equal(own, _digest(owner.encode())):
    return {}, 'it belongs to another run, or to another part of this one'
  if not np.array_equal(checksum, _sum(tree)):
    return {}, 'it is damaged (its arrays are not those that were saved)'
  return tree, ''


def _sum(tree: Mapping[str, Any]) -> np.ndarray:
  """Returns the checksum of named arrays, [32] uint8."""
  whole = hashlib.sha256()
  for name, leaf in sorted(trees.named_leaves(tree).items()):
    leaf = np.ascontiguousarray(leaf)
    whole.update(f'{name} {leaf.dtype} {leaf.shape} '.encode())
    whole.update(leaf.data)
  return np.frombuffer(whole.digest(), np.uint8)


def _digest(data: bytes) -> np.ndarray:
  return np.frombuffer(hashlib.sha256(data).digest(), np.uint8)


def read(folder: pathlib.Path) -> dict[str, np.ndarray]:
  """Returns the arrays of a checkpoint from elsewhere, by dotted name.

  Args:
    folder: a folder as `ocp.StandardCheckpointer().save(folder, tree)` leaves
      it.

  Raises:
    ValueError: no whole checkpoint of arrays, one with two readings, or one
      that would grow beyond reason.
  """
  try:
    files.opened(folder / '_METADATA').close()  # or it may be any folder
    files.check_folder(folder)
    for path in folder.glob('_*'):
      files.parsed(files.read_text(path), finite=False)
    with _quiet(), ocp.PyTreeCheckpointer() as opened:
      tree = opened.metadata(folder.absolute()).item_metadata.tree
      kinds = trees.named_leaves(tree)
      files.check_names(kinds)
      claimed = sum(
        math.prod(kind.shape) * np.dtype(kind.dtype).itemsize
        for kind in kinds.values()
      )
      size = sum(p.stat().st_size for p in folder.rglob('*') if p.is_file())
      archives.check_room(claimed, size)
      plain = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree
      )
      args = ocp.args.PyTreeRestore(restore_args=plain)
      restored = opened.restore(folder.absolute(), args=args)
  except (*_FAILURES, *_FOREIGN) as error:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    raise ValueError(
      f'Expected an Orbax checkpoint of arrays; got {str(folder)!r} '
      f'({reason}); save it anew by StandardCheckpointer'
    ) from error
  return trees.named_leaves(restored)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps Orbax's log quiet: the error says what is wrong with a checkpoint."""
  old = logging.root.manager.disable
  logging.disable(logging.CRITICAL)
  try:
    yield
  finally:
    logging.disable(old)


def numbered(leaves: list[np.ndarray]) -> dict[str, np.ndarray]:
  """Returns leaves as a dict: what a checkpoint can hold."""
  return {str(i): leaf for i, leaf in enumerate(leaves)}


def remove(folder: pathlib.Path, names: Iterable[str]) -> None:
  """Removes the checkpoints of finished parts, and the folder if it is empty.

  Args:
    folder: the folder of the checkpoints of all parts.
    names: of the finished parts.
  """
  for name in names:
    shutil.rmtree(folder / name, ignore_errors=True)
  with contextlib.suppress(OSError):
    folder.rmdir()


def _reserve(folder, tree) -> None:
  """Raises OSError where a save would not fit, before anything is half done.

  Orbax's threads would each report a full disk on standard error.
  """
  leaves = jax.tree.leaves(tree)
  size = sum(leaf.nbytes for leaf in leaves) + _OVERHEAD * (len(leaves) + 8)
  trial = folder / f'.{os.getpid()}.trial'
  try:
    with open(trial, 'wb') as file:
      os.posix_fallocate(file.fileno(), 0, size)
  finally:
    trial.unlink(missing_ok=True)


def _unwritable(opened, error) -> ValueError:
  code = _CODE.search(str(error))
  if code:
    error = OSError(int(code[1]), os.strerror(int(code[1])))
  return workdir.unwritable(pathlib.Path(str(opened.directory)), error)
