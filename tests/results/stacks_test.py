"""Tests of giajax.results.stacks."""

import numpy as np
import pytest

from giajax import archives
from giajax.results import stacks


def _opened(path, members):
  np.savez(path, **members)
  return stacks.Stacks(archives.Arrays(path), str(path), 'go')


def test_arrays_come_back_row_by_row(tmp_path):
  rows = {i: {'x': np.full((2, 3), i), 'y.a': np.array([i])} for i in (3, 5, 9)}
  rows[5]['rare'] = np.array(5.0)
  members = stacks.block(0, rows) | stacks.block(1, {4: {'x': np.array([4])}})
  assert members['0000/x'].shape == (3, 2, 3)
  assert members['0000/rare/row'].tolist() == [5]
  assert '0000/x/row' not in members
  with _opened(tmp_path / 'a.npz', members) as arrays:
    assert len(arrays) == len([*arrays]) == 8
    for number, own in rows.items():
      assert {*arrays.names(number)} == own.keys()
      for name, value in own.items():
        key = f'{number:04d}/{name}'
        np.testing.assert_array_equal(arrays[key], value, strict=True)
        assert arrays.head(key) == (value.shape, value.dtype)
    assert arrays['0004/x'].tolist() == [4]
    for key in ('0003/rare', '0004/y.a', '0006/x', 'x', '0003', 'a/x'):
      assert key not in arrays
      with pytest.raises(KeyError):
        arrays[key]


def test_members_are_read_once_as_long_as_they_have_room(tmp_path, monkeypatch):
  members = {}
  for block in (0, 1):  # as of cohorts whose points alternate
    rows = {i: {'x': np.array([i])} for i in range(block, 6, 2)}
    members |= stacks.block(block, rows)
  read = []
  whole = archives.Arrays.__getitem__

  def noted(self, name):
    read.append(name)
    return whole(self, name)

  monkeypatch.setattr(archives.Arrays, '__getitem__', noted)
  with _opened(tmp_path / 'a.npz', members) as arrays:
    read.clear()
    assert [arrays[f'{i:04d}/x'].item() for i in range(6)] == [*range(6)]
    assert read == ['0000/x', '0001/x']
  monkeypatch.setattr(stacks, '_KEPT_BYTES', 30)
  with _opened(tmp_path / 'a.npz', members) as arrays:
    read.clear()
    assert [arrays[f'{i:04d}/x'].item() for i in range(6)] == [*range(6)]
    assert read == 3 * ['0000/x', '0001/x']


_BLOCK = {'0000/row': np.arange(2), '0000/x': np.zeros((2, 3))}
_DAMAGED = {
  "no array '0001/row'": {'0001/x': np.zeros(1)},
  "'0000/x' of [1, 3] for 2 rows": {'0000/x': np.zeros((1, 3))},
  "'0000/x' of [] for 2 rows": {'0000/x': np.zeros(())},
  "'0000/row', which are no numbers of rows": {'0000/row': np.zeros(2)},
  "'0000/row', in which a row is negative or comes twice": {
    '0000/row': np.array([1, 1])
  },
  'row 1 in two blocks': {'0001/row': np.array([1])},
  "'0000/x' of rows that its block does not have": {
    '0000/x/row': np.array([0, 7])
  },
}


@pytest.mark.parametrize('words', _DAMAGED)
def test_damaged_blocks(tmp_path, words):
  with pytest.raises(ValueError) as info:
    _opened(tmp_path / 'a.npz', _BLOCK | _DAMAGED[words])
  assert str(info.value).endswith(f'got {words}; go')


def test_a_block_holds_few_large_rows_or_many_small_ones():
  assert stacks.rows_per_block({'x': np.zeros(3)}) == 1024
  assert stacks.rows_per_block({'x': np.zeros(1 << 18)}) == 8
  assert stacks.rows_per_block({'x': np.zeros(1 << 24, np.int8)}) == 1
