"""Tests of reading a file of arrays of a user."""

import pickle
import sys

import numpy as np
import pytest
from safetensors import numpy as safetensors

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


def test_safetensors_come_back_by_name(tmp_path):
  path = tmp_path / 'a.safetensors'
  safetensors.save_file({'w': np.arange(3.0)}, path)
  np.testing.assert_array_equal(archives.read(path)['w'], [0, 1, 2])
  whole = path.read_bytes()
  for damaged in (b'', whole[:-3], pickle.dumps({'w': 1})):
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match='a whole safetensors file') as info:
      archives.read(path)
    assert '\n' not in str(info.value)
  with pytest.raises(ValueError, match=r'b\.safetensors.* does not exist'):
    archives.read(tmp_path / 'b.safetensors')


def test_torch_is_asked_for_where_it_is_absent(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'torch', None)
  with pytest.raises(ValueError, match=r'without it; install giajax\[convert'):
    archives.read_any(tmp_path / 'a.pth')
  np.savez(tmp_path / 'a.npz', w=np.arange(3))
  assert list(archives.read_any(tmp_path / 'a.npz')) == ['w']


class Command:
  """What a malicious pickle would run."""

  def __reduce__(self):
    return (print, ('unpickled',))


def test_torch_files_are_read_as_tensors_alone(tmp_path, capsys):
  torch = pytest.importorskip('torch', reason='needs the extra convert')
  path = tmp_path / 'a.pth'
  weight = torch.nn.Parameter(torch.arange(3.0).to(torch.bfloat16))
  torch.save({'state': {'fc.weight': weight}, 'epoch': 3}, path)
  found = archives.read_any(path)
  assert list(found) == ['state.fc.weight']
  np.testing.assert_array_equal(found['state.fc.weight'], [0, 1, 2])
  torch.save({'w': Command()}, tmp_path / 'evil.pth')
  (tmp_path / 'pickle.pth').write_bytes(pickle.dumps({'w': Command()}))
  (tmp_path / 'cut.pth').write_bytes(path.read_bytes()[:-100])
  (tmp_path / 'empty.pth').write_bytes(b'')
  for name in ('evil', 'pickle', 'cut', 'empty'):
    with pytest.raises(ValueError, match='Expected a whole state dict') as info:
      archives.read_any(tmp_path / f'{name}.pth')
    assert '\n' not in str(info.value)
  with pytest.raises(ValueError, match='does not exist'):
    archives.read_any(tmp_path / 'no.pth')
  assert 'unpickled' not in capsys.readouterr().out


def test_files_are_written_whole_or_not_at_all(tmp_path):
  path = tmp_path / 'a.npz'
  archives.write(path, {'w': np.arange(3)})
  archives.write(path, {'w': np.arange(4)})
  np.testing.assert_array_equal(archives.read(path)['w'], [0, 1, 2, 3])
  with pytest.raises(ValueError, match=r'ends in \.npz'):
    archives.write(tmp_path / 'a.txt', {})
  with pytest.raises(ValueError, match='can be written; got'):
    archives.write(tmp_path / 'no' / 'a.npz', {})
  assert [p.name for p in tmp_path.iterdir()] == ['a.npz']
