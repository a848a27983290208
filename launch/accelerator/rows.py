"""The results of the kit: JSON lines on disk, and Markdown made of them."""

from collections.abc import Mapping, Sequence
import json
import os
import pathlib
from typing import Any

# The verdicts of a row.
OK, DIFFERS, MEASURED, FAILED = 'ok', 'differs', 'measured', 'failed'
NO_MEMORY, NONE = 'no memory', 'no such shape'
_NAME = 'rows.jsonl'
_BEGIN = b'{"key": "'  # of every row


class Rows:
  """What is known of one device; rows of others in the same file are kept.

  So are those of other versions of the software, which count as others.

  Attributes:
    device: the name of the device.
    others: the names of the other devices in the file.
  """

  def __init__(
    self, folder: pathlib.Path, device: str, versions: Mapping[str, str]
  ):
    """Reads what a folder holds.

    Args:
      folder: the output folder.
      device: the name of the device.
      versions: those of the software, by name.

    Raises:
      ValueError: its file holds something else.
    """
    self.device = device
    self._path = folder / _NAME
    self._origin = {'device': device, 'versions': dict(versions)}
    every = _read(self._path)
    self.others = sorted({row['device'] for row in every} - {device})
    own = [row for row in every if row | self._origin == row]
    self._own = {row['key']: row for row in own}

  def __iter__(self):
    return iter(self._own.values())

  def done(self, key: str) -> bool:
    """Returns whether a row is there, and need not be measured again."""
    row = self._own.get(key)
    return row is not None and row['verdict'] in (OK, MEASURED, NONE)

  def get(self, key: str) -> dict[str, Any] | None:
    """Returns a row, or None if it is not there."""
    return self._own.get(key)

  def add(self, key: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    """Writes a row in one piece, and returns it."""
    row = {'key': key, **figures, **self._origin}
    data = f'{json.dumps(row)}\n'.encode()
    handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
      while data:
        data = data[os.write(handle, data) :]
      os.fsync(handle)
    finally:
      os.close(handle)
    self._own[key] = row
    return row


def _read(path: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the rows of a file, whose last line may have been cut off."""
  if not path.exists():
    return []
  whole, _, torn = path.read_bytes().rpartition(b'\n')
  try:
    rows = [json.loads(line) for line in whole.splitlines()]
    for row in rows:
      row['key'], row['device'], row['verdict'], row['versions']
    if not torn.startswith(_BEGIN[: len(torn)]):
      raise ValueError('no row of the kit')
    if torn:
      os.truncate(path, len(whole) + bool(whole))
    return rows
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f'Expected rows of the accelerator kit in {path}; got '
      f'{type(error).__name__}: {error}; choose another --out'
    ) from error


def table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
  """Returns a Markdown table; columns without a single entry are left out."""
  shown = [i for i in range(len(titles)) if any(line[i] for line in lines)]
  cells = [[line[i] for i in shown] for line in (titles, *lines)]
  cells.insert(1, ['-'] * len(shown))
  return '\n'.join(f'| {" | ".join(row)} |' for row in cells) + '\n'
