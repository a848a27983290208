"""Saving and restoring a running attack: the only user of Orbax.

Orbax's step is the number of the save, which advances by one. A half-written
checkpoint never counts. Each carries what it belongs to and a checksum of its
arrays; one that is damaged, or another run's, is set aside and never deleted.
Arrays are saved without padding, so that a run continues on any number of
devices.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import hashlib
import json
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
from giajax import types
from giajax.engine import identity
from giajax.engine import together
from giajax.engine import workdir

# What Orbax and tensorstore raise for a full disk or for torn files.
_FAILURES = (OSError, ValueError, KeyError, EOFError)
_OWNER, _SUM = 'owner', 'sum'  # leaves beside those of the caller
_DIGEST = jax.ShapeDtypeStruct((32,), np.uint8)  # of either
_ITEM = 'default'  # Orbax's name of the only thing in a step
# What they raise besides for a checkpoint from elsewhere; RuntimeError for the
# name of a folder that is no UTF-8.
_FOREIGN = (AttributeError, TypeError, OverflowError, RuntimeError)
_OVERHEAD = 8192  # bytes on disk in addition to an array's own, about
_CODE = re.compile(r"os_error_code='(\d+)'")  # in tensorstore's messages
_log = logging.getLogger('giajax')


@contextlib.contextmanager
def manager(folder: pathlib.Path) -> Iterator[ocp.CheckpointManager]:
  """Opens the checkpoints of one part; waits for saves in flight.

  It reads none of those that are there; `restore` does, before.

  Raises:
    ValueError: the folder cannot be written.
  """
  options = ocp.CheckpointManagerOptions(
    max_to_keep=2,
    cleanup_tmp_directories=True,
    enable_async_checkpointing=True,
    lightweight_initialize=True,
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
  folder: pathlib.Path, owner: str, like: Mapping[str, Any]
) -> Mapping[str, Any] | None:
  """Returns what the last whole checkpoint holds, None if there is none.

  Those that cannot be used are moved to a folder beside.

  Args:
    folder: the checkpoints of one part, which no manager has opened.
    owner: what the checkpoint has to belong to.
    like: the shapes and types of what it has to hold.

  Raises:
    ValueError: the folder cannot be written.
  """
  folder = folder.absolute()  # Orbax reads no other
  with workdir.writing(folder):
    steps = [*ocp.path.step.standard_name_format().find_all(folder)]
  steps.sort(key=lambda found: found.step, reverse=True)
  own = json.dumps([found.path.name for found in steps])
  # All processes of a run go on from the same one.
  for name in json.loads(together.texts(own)[0]):
    tree, reason = _restored(folder / name, owner, like)
    if not together.agreed((reason != '',))[0]:
      return tree
    reason = reason or 'another process cannot read it'
    _log.warning('setting aside the checkpoint %s: %s', name, reason)
    if jax.process_index() == 0:
      workdir.set_aside(folder / name, folder)
    together.agreed((0.0,))  # until it is moved
  return None


def _restored(
  step: pathlib.Path, owner: str, like: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
  """Returns what a checkpoint holds, and why it cannot be used."""
  try:
    files.check_folder(step)
    arrays = _read(step / _ITEM, {**like, _OWNER: _DIGEST, _SUM: _DIGEST})
  except (OSError, ValueError) as error:
    return {}, f'it is damaged ({_reason(error)})'
  own, checksum = arrays.pop(_OWNER), arrays.pop(_SUM)
  if not np.array_equal(own, _digest(owner.encode())):
    return {}, 'it belongs to another run, or to another part of this one'
  if not np.array_equal(checksum, _sum(arrays)):
    return {}, 'it is damaged (its arrays are not those that were saved)'
  return trees.nested(arrays), ''


def _sum(tree: Mapping[str, Any]) -> np.ndarray:
  """Returns the checksum of named arrays, [32] uint8."""
  return np.frombuffer(bytes.fromhex(identity.arrays(tree)), np.uint8)


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
    return _read(folder.resolve())
  except (OSError, ValueError) as error:
    raise ValueError(
      f'Expected an Orbax checkpoint of arrays; got {str(folder)!r} '
      f'({_reason(error)}); save it anew by StandardCheckpointer'
    ) from error


def sections(folder: pathlib.Path, where: str) -> dict[str, dict[str, Any]]:
  """Returns the arrays of a checkpoint of Variables, by field and name.

  Args:
    folder: the folder of the checkpoint.
    where: what the message calls it.

  Raises:
    ValueError: as `read`, or something else than Variables.
  """
  leaves: dict[str, dict[str, Any]] = {}
  for name, array in read(folder).items():
    section, _, rest = name.partition('.')
    if section not in types.Variables._fields or not rest:
      raise ValueError(
        'Expected an Orbax checkpoint of params, stats and frozen; got '
        f'{name!r} in {where}; save variables._asdict()'
      )
    leaves.setdefault(section, {})[rest] = array
  return leaves


def _read(
  folder: pathlib.Path, like: Mapping[str, Any] | None = None
) -> dict[str, np.ndarray]:
  """Returns the arrays of a checkpoint by dotted name.

  Args:
    folder: the checkpoint, which may be anything.
    like: the shapes and types of what it has to hold, if these are known.

  Raises:
    OSError: it cannot be read.
    ValueError: it is no whole checkpoint of arrays, or of others.
  """
  files.opened(folder / '_METADATA').close()  # or it may be any folder
  files.check_folder(folder)
  for path in folder.glob('_*'):
    files.parsed(files.read_text(path), finite=False)
  # Orbax would wait for the other processes, which may not get that far.
  process = jax.process_index()
  alone = ocp.options.MultiprocessingOptions(process, {process})
  handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
  try:
    with (
      _quiet(),
      ocp.Checkpointer(handler, multiprocessing_options=alone) as opened,
    ):
      tree = handler.metadata(folder).tree  # pyrefly: ignore
      kinds = trees.named_leaves(tree)
      _check_claims(kinds, like, folder)
      plain = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree
      )
      args = ocp.args.PyTreeRestore(restore_args=plain)
      restored = opened.restore(folder, args=args)
  except (*_FAILURES, *_FOREIGN) as error:
    raise ValueError(_reason(error)) from error
  return trees.named_leaves(restored)


def _check_claims(
  kinds: Mapping[str, Any],
  like: Mapping[str, Any] | None,
  folder: pathlib.Path,
) -> None:
  """Raises ValueError for arrays that are others, or too large to be read.

  Args:
    kinds: what Orbax knows of the arrays of a checkpoint, by name.
    like: see `_read`.
    folder: the checkpoint.
  """
  files.check_names(kinds)
  claims = _kinds(kinds)
  for name, kind in kinds.items():
    if kind.storage is None:  # a number, whatever its file holds
      raise ValueError(f'{name!r}, which is no array')
    shape = kind.storage.chunk_shape
    if math.prod(shape) > math.prod(max(1, n) for n in kind.shape):
      raise ValueError(f'{name!r} of {kind.shape} in pieces of {shape}')
  if like is None:
    claimed = sum(math.prod(s) * dtype.itemsize for s, dtype in claims.values())
    size = sum(p.stat().st_size for p in folder.rglob('*') if p.is_file())
    archives.check_room(claimed, size)
  elif claims != _kinds(trees.named_leaves(like)):
    raise ValueError('its arrays are not those of this part')


def _kinds(leaves: Mapping[str, Any]) -> dict[str, tuple[Any, np.dtype]]:
  return {
    name: (tuple(leaf.shape), np.dtype(leaf.dtype))
    for name, leaf in leaves.items()
  }


def _reason(error: Exception) -> str:
  return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps Orbax's log quiet: the error says what is wrong with a checkpoint."""
  old = logging.root.manager.disable
  logging.disable(logging.CRITICAL)
  try:
    yield
  finally:
    logging.disable(old)


def numbered(leaves: Sequence[Any]) -> dict[str, Any]:
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
