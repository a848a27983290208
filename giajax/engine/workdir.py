"""The folder of a run: who may write it, what is in it, nothing half written.

  config.json     what was run, made at the start
  parts/          the results of finished parts of the experiment
  checkpoints/    the state of running ones
  results.jsonl, recon.npz, figures/, report.html   made at the end
"""

from collections.abc import Iterator, Mapping
import contextlib
import fcntl
import json
import os
import pathlib
from typing import Any
import zipfile
import zlib

import numpy as np


@contextlib.contextmanager
def locked(folder: pathlib.Path, name: str = 'run') -> Iterator[None]:
  """Makes the folder and holds it for this process.

  Args:
    folder: the workdir.
    name: of the lock; shards of one run have different ones.

  Raises:
    ValueError: it cannot be written, or another process holds it.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
    handle = open(folder / f'.{name}.lock', 'w')  # noqa: SIM115
  except OSError as error:
    raise unwritable(folder, error) from error
  with handle:
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise ValueError(
        f'Expected a workdir that no process is using; got {folder}, held by '
        'a running giajax; wait for it or choose another --workdir'
      ) from error
    yield


def claim(
  folder: pathlib.Path, meta: Mapping[str, Any], first: bool = True
) -> None:
  """Writes `config.json`, or checks that the one there is the same run's.

  Args:
    folder: the workdir.
    meta: its content, with 'config' and 'hash'.
    first: whether this process may write it.

  Raises:
    ValueError: the folder belongs to another config; names a key that
      differs. Or it cannot be written.
  """
  path = folder / 'config.json'
  if path.exists():
    try:
      there = json.loads(path.read_text())
      config, digest = there['config'], there['hash']
    except (ValueError, KeyError) as error:
      raise ValueError(
        f'Expected {path} to be written by giajax; got something else; choose '
        'another --workdir'
      ) from error
    if digest != meta['hash']:
      key, old, new = _difference(config, meta['config'])
      raise ValueError(
        f'Expected the config that {folder} was made with, {key}={old!r}; got '
        f'{key}={new!r}; choose another --workdir'
      )
  if first:
    write_text(path, json.dumps(meta, indent=2) + '\n')


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a file, whole or not at all.

  Raises:
    ValueError: the folder cannot be written.
  """
  _write(path, lambda partial: partial.write_text(text, encoding='utf-8'))


def write_arrays(path: pathlib.Path, arrays: Mapping[str, Any]) -> None:
  """Writes an npz, whole or not at all; the same arrays give the same bytes.

  Raises:
    ValueError: the folder cannot be written.
  """

  def write(partial):
    with open(partial, 'wb') as file:
      np.savez(file, **arrays)  # pyrefly: ignore

  _write(path, write)


def read_part(path: pathlib.Path) -> tuple[list[dict], dict] | None:
  """Returns the rows and arrays of a finished part, None where there is none.

  Raises:
    ValueError: the part is torn.
  """
  if not path.exists():
    return None
  try:
    with np.load(path, allow_pickle=False) as file:
      arrays = {name: file[name] for name in file.files}
      return json.loads(str(arrays.pop('rows'))), arrays
  except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError) as e:
    raise ValueError(
      f'Expected a whole part of a run; got {path}, which is torn; remove it '
      'and run again'
    ) from e


def unwritable(folder: pathlib.Path, error: OSError) -> ValueError:
  """Returns the one line that says why a folder cannot be written."""
  return ValueError(
    f'Expected a workdir that can be written; got {folder}: {error.strerror}; '
    'free some space or choose another --workdir; what was finished is kept'
  )


def _write(path, write):
  partial = path.with_name(f'.{path.name}.partial')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(partial)
    with open(partial, 'rb') as file:
      os.fsync(file.fileno())
    os.replace(partial, path)
  except OSError as error:
    partial.unlink(missing_ok=True)
    raise unwritable(path.parent, error) from error


def _difference(old: Any, new: Any, path: str = '') -> tuple[str, Any, Any]:
  """Returns the first key at which two configs differ, with both values."""
  if isinstance(old, dict) and isinstance(new, dict):
    for key in sorted({*old, *new}):
      name = f'{path}.{key}' if path else key
      if name == 'run':
        continue
      if old.get(key) != new.get(key) or (key in old) != (key in new):
        return _difference(old.get(key), new.get(key), name)
  return path, old, new
