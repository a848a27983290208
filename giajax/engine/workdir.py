"""The folder of a run: who may write to it, and what it holds, never torn.

config.json     what was run, made at the start
parts/          the results of finished parts of the experiment
checkpoints/    the state of running ones
progress/       how far each shard is
results.jsonl, results.parquet, recon.npz, figures/, report.html
                made at the end
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import fcntl
import itertools
import json
import os
import pathlib
import reprlib
import secrets
from typing import Any
import zipfile

import numpy as np

from giajax import archives
from giajax import files
from giajax.engine import identity
from giajax.engine import together
from giajax.results import kinds
from giajax.results import records

_LOCK = '.lock'
_PART = ('part of a run', 'remove it and run again')
_ELSEWHERE = 'choose another --workdir'
_ALIKE = ('config', 'inputs', 'precision', 'versions', 'workdir', 'shard')
_CLAIMED = {**records.RUN, 'config': dict, 'hash': str}


class UnusableError(ValueError):
  """A folder, and not the experiment, is at fault."""


@contextlib.contextmanager
def locked(
  folder: pathlib.Path, shard: tuple[int, int] = (0, 1)
) -> Iterator[None]:
  """Makes the folder and holds it for this process.

  Args:
    folder: the workdir, or that of a training.
    shard: (i, n); shards of one run may work at the same time.

  Raises:
    ValueError: it cannot be written, or another process holds it.
  """
  index, count = shard
  kind = fcntl.LOCK_EX if count == 1 else fcntl.LOCK_SH
  with contextlib.ExitStack() as stack:
    try:
      folder.mkdir(parents=True, exist_ok=True)
      stack.enter_context(_flock(folder / _LOCK, kind | fcntl.LOCK_NB))
      if count > 1:
        name = folder / f'{_LOCK}-shard-{index}'
        stack.enter_context(_flock(name, fcntl.LOCK_EX | fcntl.LOCK_NB))
    except BlockingIOError as error:
      raise UnusableError(
        f'Expected a folder that no process is using; got {folder}, held by a '
        'running giajax; wait for it or choose another folder'
      ) from error
    except OSError as error:
      raise unwritable(folder, error) from error
    yield


@contextlib.contextmanager
def writing(folder: pathlib.Path) -> Iterator[None]:
  """Turns what a disk refuses into one line.

  Raises:
    ValueError: the folder cannot be written.
  """
  try:
    yield
  except OSError as error:
    raise unwritable(folder, error) from error


@contextlib.contextmanager
def joining(folder: pathlib.Path) -> Iterator[None]:
  """Waits until no other shard is joining the parts or writing config.json.

  Raises:
    ValueError: the folder cannot be written.
  """
  with contextlib.ExitStack() as stack:
    try:
      stack.enter_context(_flock(folder / f'{_LOCK}-join', fcntl.LOCK_EX))
    except OSError as error:
      raise unwritable(folder, error) from error
    yield


def check(folder: pathlib.Path, meta: Mapping[str, Any]) -> dict | None:
  """Returns the existing `config.json`, None if there is none.

  Args:
    folder: the workdir.
    meta: what would be written, with 'config', 'hash' and 'precision', and
      'inputs' if these are known.

  Raises:
    ValueError: the folder belongs to another config or to other files, one of
      which is named; or it cannot be read, or have checkpoints.
  """
  try:
    os.fsdecode(folder.absolute()).encode('utf-8')
  except UnicodeEncodeError as error:
    raise UnusableError(
      f'Expected a workdir whose name is UTF-8; got {folder}, where no '
      'checkpoint can be written; choose another --workdir'
    ) from error
  path = folder / 'config.json'
  try:
    there = files.parsed(files.read_text(path))
    kinds.check(there, _CLAIMED, str(path), _ELSEWHERE)
    config, digest = there['config'], there['hash']
  except FileNotFoundError:
    return None
  except OSError as error:
    raise unwritable(folder, error) from error
  except ValueError as error:
    raise UnusableError(
      f'Expected {path} to be written by giajax; got something else ({error}); '
      f'{_ELSEWHERE}'
    ) from error
  if digest != meta['hash']:
    key, old, new = _difference(config, meta['config'])
    old, new = map(reprlib.repr, (old, new))
    raise UnusableError(
      f'Expected the config that {folder} was made with, {key}={old}; got '
      f'{key}={new}; choose another --workdir'
    )
  precision = there.get('precision', meta['precision'])
  if precision != meta['precision']:
    raise UnusableError(
      f'Expected the precision that {folder} was made with, {precision}; got '
      f'{meta["precision"]}; set JAX_ENABLE_X64 as before, or choose another '
      '--workdir'
    )
  if 'inputs' in meta:
    identity.check(there.get('inputs') or {}, meta['inputs'], folder)
  return there


def check_alike(metas: Sequence[Mapping[str, Any]]) -> None:
  """Raises ValueError where the processes of one run mean different runs.

  Args:
    metas: what each process would write to `config.json`, and its 'workdir'
      and 'shard'.
  """
  first = metas[0]
  for number, other in enumerate(metas):
    for part in _ALIKE:
      if first[part] != other[part]:
        key, wanted, value = _difference(first[part], other[part], speed=True)
        raise ValueError(
          f'Expected one run in all processes, {key or part}={wanted!r} as in '
          f'process 0; got {key or part}={value!r} in process {number}; start '
          f'process {number} by the same command'
        )


def claim(folder: pathlib.Path, meta: Mapping[str, Any]) -> bool:
  """Writes `config.json`, or checks that the one there is the same run's.

  Returns:
    Whether the folder was unclaimed.

  Raises:
    ValueError: see `check`; or it cannot be written.
  """
  with joining(folder):
    fresh = check(folder, meta) is None
    if fresh:
      write_text(folder / 'config.json', json.dumps(meta, indent=2) + '\n')
  return fresh


def withdraw(folder: pathlib.Path) -> None:
  """Undoes `claim` and the making of the folder, if nothing is kept."""
  progress = [
    *(folder / 'parts').glob('*.npz'),
    *(folder / 'checkpoints').glob('*/[0-9]*'),
  ]
  if progress:
    return
  (folder / 'config.json').unlink(missing_ok=True)
  leave(folder)


def leave(folder: pathlib.Path) -> None:
  """Removes the locks and the empty folders of a workdir, and it if empty."""
  marks = (f'{_LOCK}*', '.*.partial', 'progress/*')
  for path in itertools.chain(*map(folder.glob, marks)):
    path.unlink(missing_ok=True)
  empty = [*(folder / 'checkpoints').glob('*'), folder / 'checkpoints']
  for path in (*empty, folder / 'parts', folder / 'progress', folder):
    with contextlib.suppress(OSError):
      path.rmdir()


def check_shared(folder: pathlib.Path) -> None:
  """Raises ValueError where a path is another folder in another process.

  Process 0 makes a file in it, whose name no cache of a network's disk can know
  of.
  """
  own = f'.{secrets.token_hex(8)}.partial'
  first, *others = together.texts(own)
  if not others:
    return
  path = folder / first
  try:
    if own == first:
      with writing(folder):
        path.touch()
    together.agreed((0.0,))  # until it is made
    sights = together.texts(str(os.path.exists(path)))
  finally:
    if own == first:
      path.unlink(missing_ok=True)
  if str(False) in sights:
    raise UnusableError(
      f'Expected one workdir that all processes share; got {folder}, which '
      f'process {sights.index(str(False))} does not share with process 0; '
      'choose a --workdir on a disk that all of them see'
    )


def set_aside(path: pathlib.Path, beside: pathlib.Path) -> None:
  """Moves what cannot be used into a folder, under the first free number.

  Args:
    path: what is moved; another shard may have done it.
    beside: the folder for it is beside this path.

  Raises:
    ValueError: the folder cannot be written.
  """
  aside = beside.with_name(f'{beside.name}.aside')
  numbers = (aside / str(n) for n in itertools.count())
  with writing(aside.parent), contextlib.suppress(FileNotFoundError):
    aside.mkdir(exist_ok=True)
    path.rename(next(free for free in numbers if not os.path.lexists(free)))


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a file, whole or not at all.

  Raises:
    ValueError: the folder cannot be written.
  """
  _write(path, lambda made: made.write_text(text, encoding='utf-8'))


def write_arrays(
  path: pathlib.Path, arrays: Iterable[tuple[str, np.ndarray]]
) -> None:
  """Writes an npz, whole or not at all; the same arrays give the same bytes.

  Args:
    path: the file.
    arrays: names and arrays, which may be made while they are written.

  Raises:
    ValueError: the folder cannot be written, or making an array raised it.
  """

  def write(made):
    with zipfile.ZipFile(made, 'w') as archive:
      for name, array in arrays:
        member = zipfile.ZipInfo(f'{name}.npy')  # of no date
        with archive.open(member, 'w', force_zip64=True) as file:
          np.lib.format.write_array(file, array, allow_pickle=False)

  _write(path, write)


def write_part(
  path: pathlib.Path,
  owner: str,
  rows: Sequence[Mapping[str, Any]],
  arrays: Mapping[str, np.ndarray],
) -> None:
  """Writes the results of a finished part, whole or not at all.

  Args:
    path: the file.
    owner: what the part belongs to.
    rows: its rows.
    arrays: its arrays, by name.

  Raises:
    ValueError: the folder cannot be written.
  """
  text = {'owner': np.asarray(owner), 'rows': _bytes(json.dumps(rows))}
  write_arrays(path, {**text, **arrays}.items())


@contextlib.contextmanager
def part(
  path: pathlib.Path, owner: str
) -> Iterator[tuple[list[dict], archives.Arrays]]:
  """Opens a finished part.

  Args:
    path: the file, whose members have checksums.
    owner: what the part has to belong to.

  Yields:
    Its rows, and its arrays, which are read as they are asked for.

  Raises:
    ValueError: the part is damaged, or belongs to something else.
  """
  kind, advice = _PART
  with archives.Arrays(path, *_PART) as arrays:
    try:
      text = arrays['rows'] if 'rows' in arrays else _bytes('')
      if text.dtype != np.uint8:
        raise ValueError(f'rows of {text.dtype}')
      rows = files.parsed(text.tobytes(), finite=False)
      kinds.check(rows, [dict], 'its rows', 'remove it')
    except ValueError as error:
      raise UnusableError(
        f'Expected a whole {kind}; got {path} ({error}); {advice}'
      ) from error
    if 'owner' not in arrays or str(arrays['owner']) != owner:
      raise UnusableError(
        f'Expected a part of this run; got {path}, which is of another one; '
        f'{advice}'
      )
    yield rows, arrays


def unwritable(folder: pathlib.Path, error: Exception) -> UnusableError:
  """Returns the one line that says why a folder cannot be written."""
  text = ' '.join(str(error).split()).rsplit(': ', 1)[-1]
  reason = getattr(error, 'strerror', None) or text or type(error).__name__
  return UnusableError(
    f'Expected a folder that can be written; got {folder}: {reason}; free '
    'some space or choose another folder; what was finished is kept'
  )


@contextlib.contextmanager
def _flock(path, kind):
  with open(path, 'a+', encoding='utf-8') as handle:
    fcntl.flock(handle, kind)
    yield


def _bytes(text: str) -> np.ndarray:
  return np.frombuffer(text.encode(), np.uint8)


def _write(path, write):
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.written(path) as made:
      write(made)
  except OSError as error:
    raise unwritable(path.parent, error) from error


def _difference(
  old: Any, new: Any, path: str = '', *, speed: bool = False
) -> tuple[str, Any, Any]:
  """Returns the first key at which two configs differ, with both values.

  Args:
    old: the one.
    new: the other.
    path: where they stand in their configs.
    speed: whether keys that change only the speed count.
  """
  if isinstance(old, dict) and isinstance(new, dict):
    for key in sorted({*old, *new}):
      name = f'{path}.{key}' if path else key
      if name == 'run' and not speed:
        continue
      if old.get(key) != new.get(key) or (key in old) != (key in new):
        return _difference(old.get(key), new.get(key), name, speed=speed)
  return path, old, new
