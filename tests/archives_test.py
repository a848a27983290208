"""Tests of reading a file of arrays of a user."""

import json
import os
import pickle
import re
import struct
import sys

import numpy as np
import pytest
from safetensors import numpy as safetensors
import zipped

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
  (tmp_path / 'a.pth').write_bytes(
    zipped.torch({'data.pkl': b'', '.data/0': b'1'})
  )
  with pytest.raises(ValueError, match=r'without it; install giajax\[torch'):
    archives.read_any(tmp_path / 'a.pth')
  np.savez(tmp_path / 'a.npz', w=np.arange(3))
  assert list(archives.read_any(tmp_path / 'a.npz')) == ['w']


class Command:
  """What a malicious pickle would run."""

  def __reduce__(self):
    return (print, ('unpickled',))


def test_torch_files_are_read_as_tensors_alone(tmp_path, capsys):
  torch = pytest.importorskip('torch', reason='needs the extra torch')
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


_ZERO, _ONE = (zipped.npy(np.full((1, 2), n, np.float32)) for n in (0, 1))


def _twice(data):
  """Returns an array whose header has another shape first."""
  one, two = b"'shape': (1, 2), }", b"'shape': (2,), 'shape': (1, 2), }"
  return data.replace(one + b' ' * (len(two) - len(one)), two)


def _tensor(**changes):
  return {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 4], **changes}


def _safetensors(header, data=bytes(4)):
  text = header if isinstance(header, str) else json.dumps(header)
  return struct.pack('<Q', len(text)) + text.encode() + data


_TWO_TYPES = ', '.join(
  f'"a": {json.dumps(_tensor(dtype=dtype))}' for dtype in ('F32', 'I32')
)


# The ending of a file, its content (None for a pipe), and what the error says.
_AMBIGUOUS = (
  # Numpy reads the first of these two, and others the second.
  ('npz', zipped.zip({'w': _ONE, 'w.npy': _ZERO}), "the name 'w' twice"),
  ('npz', zipped.zip({'w.npy.npy': _ONE, 'w.npy': _ZERO}), 'numpy drops'),
  ('npz', zipped.zip({'\u00e9.npy': _ONE, 'e\u0301.npy': _ZERO}), 'twice'),
  ('npz', zipped.zip({'a' * 10_000 + '.npy': _ONE}), 'of 10000 characters'),
  ('npz', zipped.zip({'a\n.npy': _ONE}), 'readers change'),
  ('npz', zipped.zip({'w': _ONE}), 'a zip of other files'),
  (
    'npz',
    zipped.zip({'w.npy': _twice(_ONE)}),
    'a key twice',
  ),
  ('npz', zipped.zip({'w.npy': _ONE[:-1]}), 'another length than its shape'),
  ('npz', None, 'not a regular file'),
  ('safetensors', None, 'not a regular file'),
  ('pth', None, 'not a regular file'),
  ('safetensors', _safetensors(f'{{{_TWO_TYPES}}}'), "the key 'a' twice"),
  ('safetensors', _safetensors({'a' * 10_000: _tensor()}), '10000 charact'),
  ('safetensors', _safetensors({'a\0': _tensor()}), 'does not print'),
  ('safetensors', _safetensors('{"a":' + '[' * 100_000), 'too deeply'),
  ('safetensors', _safetensors({'a': _tensor(dtype='F8_E4M3')}), 'F8_E4M3'),
  ('safetensors', _safetensors({'a': _tensor(dtype='F4')}), "type 'F4'"),
  ('safetensors', _safetensors({'a': _tensor(shape=[2**40])}), 'shape'),
  ('safetensors', _safetensors({'a': _tensor(shape=[True])}), 'boolean'),
  ('safetensors', _safetensors({'a': 1}), 'of the type None'),
  ('safetensors', _safetensors([]), 'a header of another kind'),
  ('safetensors', b'\xff' * 8, 'a header of'),
  # Two readings of the bytes, and bytes with none.
  (
    'safetensors',
    _safetensors({'a': _tensor(), 'b': _tensor()}),
    'invalid offset',
  ),
  ('safetensors', _safetensors({'a': _tensor()}, bytes(5)), 'not fully'),
  # Torch looks names up whatever the case, in the folder of the first.
  ('pth', zipped.torch({'data/0': b'0', 'DATA/0': b'1'}), 'twice'),
  ('pth', zipped.torch({'data.pkl': b'0', 'x': b''}, ('a', 'b')), 'folders'),
  ('pth', b'\x80\x02.' + zipped.torch({'data.pkl': b'0'}), 'ends of the zip'),
)


def test_two_readings_are_none(tmp_path):
  for name, data, words in _AMBIGUOUS:
    path = tmp_path / f'a.{name}'
    if data is None:
      os.mkfifo(path)
    else:
      path.write_bytes(data)
    match = f'^Expected .*{re.escape(words)}'
    with pytest.raises(ValueError, match=match) as info:
      archives.read_any(path)
    text = str(info.value)
    assert text.isprintable() and len(text) < 400 + len(str(path)), text
    path.unlink()


@pytest.mark.parametrize('path', ['/dev/zero', '/'])
def test_devices_and_folders_are_no_files(path):
  with pytest.raises(ValueError, match='not a regular file'):
    archives.read(path)


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
