"""Readers of weights meet files that nobody wrote as they are."""

import io
import json
import math
import pickle
import struct
import tracemalloc
import zipfile

import hypothesis
from hypothesis import strategies as st
import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors

from giajax import archives
from giajax.models import convert
from giajax.models.classification import mlp

_ARRAYS = {
  'layers.0.weight': np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 12),
  'layers.0.bias': np.zeros(2, np.float32),
}
_NET = mlp.mlp((2, 2, 3), 2, widths=(2,))
_MOST = 64 << 20  # bytes that reading a small file may take
fuzzed = hypothesis.settings(
  max_examples=150,
  deadline=None,
  derandomize=True,
  database=None,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)


def _npz(write=np.savez):
  stream = io.BytesIO()
  write(stream, **_ARRAYS)
  return stream.getvalue()


_WHOLE = {
  'npz': _npz(),
  'zipped.npz': _npz(np.savez_compressed),
  'safetensors': safetensors.save(_ARRAYS),
}


def _read(path, data):
  """Reads a file as `giajax verify` does: variables, or one line of error."""
  path.write_bytes(data)
  tracemalloc.start()
  try:
    return convert.as_found(archives.read(path), _NET)
  except ValueError as error:
    text = str(error)
    assert text.startswith('Expected ') and '; got ' in text, text
    assert '\n' not in text
    return None
  finally:
    assert tracemalloc.get_traced_memory()[1] < _MOST
    tracemalloc.stop()


@pytest.mark.parametrize('kind', sorted(_WHOLE))
def test_whole_files_are_read(tmp_path, kind):
  found = _read(tmp_path / f'a.{kind}', _WHOLE[kind])
  kernel = found.params['layers']['0']['kernel']
  np.testing.assert_array_equal(kernel, _ARRAYS['layers.0.weight'].T)


@pytest.mark.parametrize('kind', sorted(_WHOLE))
@fuzzed
@hypothesis.given(data=st.data())
def test_changed_bytes(tmp_path, kind, data):
  whole = bytearray(_WHOLE[kind])
  places = st.integers(0, len(whole) - 1)
  changes = st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)
  for place, value in data.draw(changes):
    whole[place] = value
  cut = data.draw(st.one_of(st.none(), places))
  _read(tmp_path / f'a.{kind}', bytes(whole[:cut]))


@pytest.mark.parametrize('suffix', ['npz', 'safetensors'])
@fuzzed
@hypothesis.given(data=st.binary(max_size=300))
def test_bytes_of_nothing(tmp_path, suffix, data):
  assert _read(tmp_path / f'a.{suffix}', data) is None


_SIZES = st.lists(st.integers(-(2**70), 2**70) | st.integers(0, 9), max_size=5)
_DTYPES = st.sampled_from(
  ['<f4', '<f2', '<f8', '<i4', '|O', '|V2', '|V0', '<U3', '<M8[s]', 'x', '|b1']
)


@fuzzed
@hypothesis.given(
  shape=_SIZES,
  dtype=_DTYPES,
  version=st.sampled_from([(1, 0), (2, 0), (3, 0), (9, 9)]),
  extra=st.sampled_from(
    ['', ', **{}', ", 'a': 1", '(' * 300, '__import__("os")']
  ),
  body=st.binary(max_size=40),
)
def test_headers_of_an_npz(tmp_path, shape, dtype, version, extra, body):
  text = (
    f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {tuple(shape)}"
  )
  text = f'{text}{extra}}}\n'.encode()
  size = struct.pack('<H' if version == (1, 0) else '<I', len(text))
  member = b'\x93NUMPY' + bytes(version) + size + text + body
  stream = io.BytesIO()
  with zipfile.ZipFile(stream, 'w') as file:
    file.writestr('layers.0.weight.npy', member)
  found = _read(tmp_path / 'a.npz', stream.getvalue())
  fits = not extra and dtype == '<f4' and version < (3, 0)
  if fits and min(shape, default=0) >= 0:
    whole = 4 * math.prod(shape) == len(body)
    numbers = np.frombuffer(body[: len(body) // 4 * 4], '<f4')
    assert (found is not None) == bool(whole and np.isfinite(numbers).all())
  elif extra or version == (9, 9) or dtype != '<f4':
    assert found is None or extra == ", 'a': 1"


@fuzzed
@hypothesis.given(
  shape=st.lists(st.integers(-3, 2**63), max_size=4),
  dtype=st.sampled_from(
    ['F32', 'F16', 'BF16', 'F64', 'F8_E4M3', 'F8_E5M2', 'I8', 'BOOL', 'U4', 1]
  ),
  ends=st.tuples(st.integers(0, 2**64), st.integers(0, 64)),
  body=st.binary(max_size=64),
)
def test_headers_of_safetensors(tmp_path, shape, dtype, ends, body):
  entry = {'dtype': dtype, 'shape': shape, 'data_offsets': list(ends)}
  text = json.dumps({'a.weight': entry}).encode()
  _read(tmp_path / 'a.safetensors', struct.pack('<Q', len(text)) + text + body)


@fuzzed
@hypothesis.given(
  names=st.lists(
    st.text('ab.', max_size=6)
    | st.sampled_from(['a.weight', 'a.bias', 'layers.0.weight', 'a.weight.b']),
    max_size=4,
    unique=True,
  ),
  shape=st.lists(st.integers(0, 3), max_size=5),
)
def test_names_of_any_kind(tmp_path, names, shape):
  stream = io.BytesIO()
  np.savez(stream, **{n: np.ones(shape, np.float32) for n in names})
  found = _read(tmp_path / 'a.npz', stream.getvalue())
  if found is not None:
    sizes = [np.size(leaf) for leaf in jax.tree.leaves(found)]
    assert sizes == [math.prod(shape)] * len(names)


def test_what_claims_more_than_there_is_room_for(tmp_path, monkeypatch):
  monkeypatch.setattr(archives, '_ROOM', 1 << 20)
  bomb = io.BytesIO()
  zeros = bytes(1 << 20)
  with (
    zipfile.ZipFile(bomb, 'w', zipfile.ZIP_DEFLATED) as file,
    file.open('a.npy', 'w', force_zip64=True) as member,
  ):
    for _ in range(70):
      member.write(zeros)
  assert _read(tmp_path / 'a.npz', bomb.getvalue()) is None


def test_one_name_twice_and_other_compressions(tmp_path):
  for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w', method) as file:
      file.writestr('a.npy', b'0' * 99)
    assert _read(tmp_path / 'a.npz', stream.getvalue()) is None
  stream = io.BytesIO()
  with zipfile.ZipFile(stream, 'w') as file:
    file.writestr('a.npy', b'0')
    with pytest.warns(UserWarning, match='Duplicate name'):
      file.writestr('a.npy', b'1')
  assert _read(tmp_path / 'a.npz', stream.getvalue()) is None


@pytest.mark.parametrize('flags', [0x1, 0x20, 0x40])
def test_an_encrypted_or_patched_member(tmp_path, flags):
  data = bytearray(_WHOLE['npz'])
  for signature, place in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
    data[data.index(signature) + place] |= flags
  assert _read(tmp_path / 'a.npz', bytes(data)) is None


class Command:
  """What a malicious pickle would run."""

  def __reduce__(self):
    return (print, ('unpickled',))


def test_no_code_is_run(tmp_path, capsys):
  stream = io.BytesIO()
  np.savez(stream, w=np.array([Command()], dtype=object))
  for data in (stream.getvalue(), pickle.dumps(Command())):
    for suffix in ('npz', 'safetensors'):
      assert _read(tmp_path / f'a.{suffix}', data) is None
  assert 'unpickled' not in capsys.readouterr().out
