"""Tests of reading an npz of a user."""

import numpy as np
import pytest

from giajax import archives


def test_arrays_come_back_by_name(tmp_path):
  np.savez(tmp_path / 'a.npz', w=np.arange(3))
  found = archives.read(tmp_path / 'a.npz')
  assert list(found) == ['w']
  np.testing.assert_array_equal(found['w'], [0, 1, 2])


def test_objects_are_not_unpickled(tmp_path):
  np.savez(tmp_path / 'a.npz', w=np.array([{}], dtype=object))
  with pytest.raises(ValueError, match='Expected a whole npz of plain arrays'):
    archives.read(tmp_path / 'a.npz')


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(ValueError, match=r'b\.npz.* does not exist'):
    archives.read(tmp_path / 'b.npz')
