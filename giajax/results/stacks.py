"""Arrays of many rows in few: how `recon.npz` and the parts of a run hold them.

Rows of one cohort lie in blocks. '0002/x_hat' are the images of the N rows of
block 2, [N, B, H, W, C], and '0002/row' the numbers of these rows, [N]. An
array that only some rows of a block have says which ones:
'0002/x_noise_gradient/row'.
"""

from collections.abc import Iterator, Mapping
import math
from typing import Any, NamedTuple, NoReturn

import numpy as np

from giajax import archives
from giajax.results import rows as row_format

ROW = 'row'
# Rows and bytes of an array that a block has at most; a row is never split.
_MOST_ROWS, _MOST_BYTES = 1024, 1 << 24
_KEPT_BYTES = 1 << 28  # of the members that are kept


class _Place(NamedTuple):
  """Where an array of some rows lies."""

  member: str  # '0002/x_hat'
  index: Mapping[int, int]  # the position of each row


class Stacks(Mapping[str, np.ndarray]):
  """The arrays of rows, such as '0007/x_hat' of row 7, out of their blocks.

  Args:
    members: the arrays of an archive, which is closed with this; those that
      are no members of a block do not count. A member is read when an array of
      it is asked for; the latest ones are kept, up to a number of bytes.
    where: what a message calls them.
    advice: what a message says to do.

  Raises:
    ValueError: blocks without numbers of rows, or with other than they have.
  """

  def __init__(self, members: archives.Arrays, where: str, advice: str):
    self._members = members
    self._about = where, advice
    self._kept: dict[str, np.ndarray] = {}  # the latest last
    self._size = 0  # of these, in bytes
    self._heads: dict[str, archives.Head] = {}
    self._places: dict[int, dict[str, _Place]] = {}
    names: dict[str, list[str]] = {}
    for member in members:
      block, _, name = member.partition('/')
      if block.isdecimal() and name:
        names.setdefault(block, []).append(name)
    for block, own in names.items():
      self._add(block, {*own})

  def _add(self, block: str, names: set[str]) -> None:
    """Notes where the arrays of a block are."""
    numbers = self._numbers(f'{block}/{ROW}')
    places = {int(n): {} for n in numbers}
    twice = self._places.keys() & places.keys()
    if twice:
      self._refuse(f'row {min(twice)} in two blocks')
    every = {int(n): i for i, n in enumerate(numbers)}
    for name in sorted(names - {ROW}):
      if name.endswith(f'/{ROW}'):
        continue
      member, index = f'{block}/{name}', every
      if f'{name}/{ROW}' in names:
        some = self._numbers(f'{member}/{ROW}')
        index = {int(n): i for i, n in enumerate(some)}
      if index.keys() - places.keys():
        self._refuse(f'{member!r} of rows that its block does not have')
      self._check_length(member, len(index))
      place = _Place(member, index)
      for number in index:
        places[number][name] = place
    self._places |= places

  def _numbers(self, member: str) -> np.ndarray:
    """Returns the numbers of the rows of a block, or of one of its arrays."""
    if member not in self._members:
      self._refuse(f'no array {member!r}')
    numbers = self._members[member]
    if numbers.ndim != 1 or numbers.dtype.kind not in 'iu' or not numbers.size:
      self._refuse(f'{member!r}, which are no numbers of rows')
    if numbers.min() < 0 or len(np.unique(numbers)) < len(numbers):
      self._refuse(f'{member!r}, in which a row is negative or comes twice')
    return numbers

  def _check_length(self, member: str, length: int) -> None:
    shape, dtype = self._members.head(member)
    if not shape or shape[0] != length:
      self._refuse(f'{member!r} of {[*shape]} for {length} rows')
    self._heads[member] = archives.Head(shape[1:], dtype)

  def _refuse(self, what: str) -> NoReturn:
    where, advice = self._about
    raise ValueError(
      f'Expected {where} to hold blocks of rows; got {what}; {advice}'
    )

  def _place(self, key: str) -> tuple[str, int]:
    """Returns where an array of a row is: the member, and the place in it."""
    number, _, name = key.partition('/')
    place = self._places.get(int(number) if number.isdecimal() else -1, {})
    if name not in place:
      raise KeyError(key)
    return place[name].member, place[name].index[int(number)]

  def __getitem__(self, key: str) -> np.ndarray:
    """Returns an array of a row.

    Raises:
      KeyError: there is none.
      ValueError: the archive is torn there.
    """
    member, index = self._place(key)
    return self._whole(member)[index]

  def _whole(self, member: str) -> np.ndarray:
    """Returns a member, which is read if it is not kept."""
    kept = self._kept
    if member in kept:
      kept[member] = kept.pop(member)
      return kept[member]
    kept[member] = array = self._members[member]
    self._size += array.nbytes
    while self._size > _KEPT_BYTES and len(kept) > 1:
      self._size -= kept.pop(next(iter(kept))).nbytes
    return array

  def __iter__(self) -> Iterator[str]:
    """Yields the names, row by row."""
    for number, places in self._places.items():
      for name in places:
        yield row_format.key(number, name)

  def __len__(self) -> int:
    """Returns the number of arrays."""
    return sum(map(len, self._places.values()))

  def __contains__(self, key: object) -> bool:
    """Returns whether an array exists, without reading it."""
    number, _, name = str(key).partition('/')
    return number.isdecimal() and name in self._places.get(int(number), ())

  def __enter__(self) -> 'Stacks':
    """Returns itself."""
    return self

  def __exit__(self, *error: object) -> None:
    """Closes the archive."""
    self.close()

  def names(self, row: int) -> list[str]:
    """Returns the names of the arrays of a row, such as 'x_hat'."""
    return [*self._places.get(row, ())]

  def head(self, key: str) -> archives.Head:
    """Returns the shape and type of an array; its values are not read."""
    return self._heads[self._place(key)[0]]

  def close(self) -> None:
    """Closes the archive."""
    self._members.close()


def block(
  number: int, rows: Mapping[int, Mapping[str, Any]]
) -> dict[str, np.ndarray]:
  """Returns the members of a block, in the order of their names.

  Args:
    number: the number of the block.
    rows: the arrays of each row, by the number of the row; those of one name
      have one shape.
  """
  of_name: dict[str, dict[int, Any]] = {}
  for row, arrays in rows.items():
    for name, value in arrays.items():
      of_name.setdefault(name, {})[row] = value
  made = {ROW: np.asarray([*rows], np.int32)}
  for name, values in of_name.items():
    made[name] = np.stack([*values.values()])
    if len(values) < len(rows):
      made[f'{name}/{ROW}'] = np.asarray([*values], np.int32)
  return {f'{number:04d}/{name}': made[name] for name in sorted(made)}


def rows_per_block(arrays: Mapping[str, Any]) -> int:
  """Returns how many rows with such arrays form a block."""
  largest = max(
    (math.prod(np.shape(a)) * a.dtype.itemsize for a in arrays.values()),
    default=1,
  )
  return min(_MOST_ROWS, max(1, _MOST_BYTES // max(1, largest)))
