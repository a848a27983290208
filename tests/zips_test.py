"""Tests of zips: what can be read in two ways is refused."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
import zipped

from giajax import zips

_MEMBERS = {'a.npy': b'first', 'b.npy': b'second' * 9}


def _read(data):
  file = io.BytesIO(data)
  return {m.name: zips.content(file, m) for m in zips.members(file)}


class Pipe(io.BytesIO):
  """A stream that cannot be sought, so that sizes follow the data."""

  def seekable(self):
    return False

  def seek(self, *_):
    raise OSError

  def tell(self):
    raise OSError


def test_what_numpy_and_torch_write_is_read():
  deflated = zipped.zip(_MEMBERS, zipfile.ZIP_DEFLATED)
  for data in (zipped.zip(_MEMBERS), deflated):
    assert _read(data) == _MEMBERS
    file = io.BytesIO(data)
    begins = [zips.beginning(file, m, 3) for m in zips.members(file)]
    assert begins == [b'fir', b'sec']
  assert _read(zipped.torch({'data.pkl': b'x', 'data/0': b''})) == {
    'a/data.pkl': b'x',
    'a/data/0': b'',
  }
  assert _read(zipped.zip({})) == {}
  for write in (np.savez, np.savez_compressed):
    stream = Pipe()
    write(stream, w=np.arange(3))
    assert np.load(io.BytesIO(_read(stream.getvalue())['w.npy'])).tolist() == [
      *(0, 1, 2)
    ]


def _put(data, place, form, *values):
  end = place + struct.calcsize(form)
  return data[:place] + struct.pack(form, *values) + data[end:]


def _inserted(data, place, more):
  """Returns a zip with more bytes somewhere, and all offsets right again."""
  (begin,) = struct.unpack_from('<L', data, len(data) - 6)
  if place <= begin:
    data = _put(data, len(data) - 6, '<L', begin + len(more))
  else:
    (size,) = struct.unpack_from('<L', data, len(data) - 10)
    data = _put(data, len(data) - 10, '<L', size + len(more))
  entry = data.find(b'PK\1\2')
  while entry >= 0:
    (start,) = struct.unpack_from('<L', data, entry + 42)
    if place <= start:
      data = _put(data, entry + 42, '<L', start + len(more))
    entry = data.find(b'PK\1\2', entry + 4)
  return data[:place] + more + data[place:]


_TWO = zipped.zip(_MEMBERS)
_SECOND, _DIRECTORY = _TWO.index(b'PK\3\4', 4), _TWO.index(b'PK\1\2')
_END, _LAST = _TWO.index(b'PK\5\6'), _TWO.index(b'PK\1\2', _DIRECTORY + 4)
_WIDE = zipped.torch(_MEMBERS)
_PATH = struct.pack('<2HBL', 0x7075, 10, 1, zlib.crc32(b'a.npy')) + b'b.npy'


def _deflated(stored, size):
  """Returns a zip of zeros that are stored as these bytes."""
  data = zipped.zip({'w.npy': bytes(size)}, zipfile.ZIP_DEFLATED)
  directory = data.index(b'PK\1\2')
  for place in (18, directory + 20):
    data = _put(data, place, '<L', len(stored))
  old = directory - 35
  data = data[:35] + data[directory:]
  data = _put(data, len(data) - 6, '<L', directory - old)
  return _inserted(data, 35, stored)


def _deflate(data):
  stream = zlib.compressobj(wbits=-15)
  return stream.compress(data) + stream.flush()


# What is wrong with a zip, and what the error says.
_AMBIGUOUS = {
  'nothing': (b'', 'no zip'),
  'a prefix': (b'junk' + _TWO, 'at the directory'),
  'a prefix with right offsets': (_inserted(_TWO, 0, b'junk'), 'the first'),
  'a suffix': (_TWO + b'junk', 'after its end'),
  'two ends': (_TWO + zipped.zip({}), 'at the directory'),
  'two zips': (_TWO + _TWO, 'at the directory'),
  'a comment': (_put(_TWO, len(_TWO) - 2, '<H', 3) + b'abc', 'after its end'),
  'no comment': (_put(_TWO, len(_TWO) - 2, '<H', 1), 'a comment'),
  'an end in a comment': (
    _put(_TWO, len(_TWO) - 2, '<H', 22) + _TWO[_END:],
    'at the directory',
  ),
  'several pieces': (_put(_TWO, _END + 4, '<H', 1), 'several pieces'),
  'a smaller count': (_put(_TWO, _END + 8, '<2H', 1, 1), '2 members, not 1'),
  'a smaller directory': (_put(_TWO, _END + 12, '<L', 3), 'at the directory'),
  'a member left out': (
    _inserted(_TWO, _SECOND, _TWO[:_SECOND]),
    "overlap after 'a.npy'",
  ),
  'a member twice': (_put(_TWO, _LAST + 42, '<L', 0), "'a.npy' out of order"),
  'a first member left out': (
    _put(_TWO, _DIRECTORY + 42, '<L', _SECOND),
    'before the first',
  ),
  'a gap': (_inserted(_TWO, _DIRECTORY, b'gap'), "after 'b.npy'"),
  'other flags': (_put(_TWO, 6, '<H', 0x800), 'two kinds'),
  'another method': (_put(_TWO, 8, '<H', 8), 'two kinds'),
  'another checksum': (_put(_TWO, 14, '<L', 7), 'two kinds'),
  'another stored size': (_put(_TWO, 18, '<L', 4), 'two kinds'),
  'another size': (_put(_TWO, 22, '<L', 4), 'two kinds'),
  'a wide size': (_put(_TWO, 22, '<L', 0xFFFFFFFF), 'two kinds'),
  'another name': (_put(_TWO, 30, '<c', b'b'), 'two kinds'),
  'another size in the directory': (
    _put(_TWO, _DIRECTORY + 24, '<L', 4),
    'two kinds',
  ),
  'bzip2': (_put(_TWO, _DIRECTORY + 10, '<H', 12), 'another method'),
  'encryption': (_put(_TWO, _DIRECTORY + 8, '<H', 1), 'encrypted'),
  'an old code page': (_TWO.replace(b'a.npy', b'\xe9.npy'), 'decode'),
  'NUL': (_TWO.replace(b'a.npy', b'a\0npy'), 'readers change'),
  'a backslash': (_TWO.replace(b'a.npy', b'a\\npy'), 'readers change'),
  'a second name before a member': (
    _inserted(_put(_TWO, 28, '<H', len(_PATH)), 35, _PATH),
    'two kinds',
  ),
  'a second name in the directory': (
    _inserted(
      _put(_TWO, _DIRECTORY + 30, '<H', len(_PATH)), _DIRECTORY + 51, _PATH
    ),
    'extra fields',
  ),
  'a wide size in the directory': (
    _put(_TWO, _DIRECTORY + 24, '<L', 0xFFFFFFFF),
    'extra fields',
  ),
  'a remark on a member': (
    _inserted(_put(_TWO, _DIRECTORY + 32, '<H', 1), _DIRECTORY + 51, b'x'),
    'more than names',
  ),
  'a wide end with another count': (
    _put(_WIDE, len(_WIDE) - 14, '<2H', 1, 1),
    'two ends',
  ),
  'a wide end with another place': (
    _put(_WIDE, len(_WIDE) - 6, '<L', 1),
    'two ends',
  ),
  'a wide end elsewhere': (_put(_WIDE, len(_WIDE) - 34, '<Q', 1), 'two ends'),
  'another checksum after a member': (
    _put(_WIDE, _WIDE.index(b'PK\7\x08') + 4, '<L', 1),
    'two sizes',
  ),
  'more after deflate': (
    _deflated(_deflate(bytes(9)) + b'more', 9),
    'another size',
  ),
  'a bomb': (_deflated(_deflate(bytes(10**6)), 9), 'another size'),
  'too few': (_deflated(_deflate(bytes(3)), 9), 'another size'),
  'other data, deflated': (
    _deflated(_deflate(b'123456789'), 9),
    'another checksum',
  ),
  'other data': (_TWO.replace(b'first', b'f1rst'), 'another checksum'),
}


@pytest.mark.parametrize('what', _AMBIGUOUS)
def test_two_readings_are_none(what):
  data, words = _AMBIGUOUS[what]
  with pytest.raises(ValueError, match=words):
    _read(data)


def test_wide_numbers_of_torch():
  """What torch.save writes for members of and behind 4 GB."""
  size = 1 << 32
  entry = zips._Entry(b'', 0x808, 0, 7, size, size, 9)
  for wide, same in (([size, 0], True), ([9], True), ([8], False)):
    assert zips._agree([0, 0, 0], {1: wide}, entry) == same


def test_the_zips_above_are_otherwise_whole():
  assert _read(_deflated(_deflate(bytes(9)), 9)) == {'w.npy': bytes(9)}
  padded = _inserted(_put(_TWO, 28, '<H', 7), 35, b'FB\3\0ZZZ')
  assert _read(padded) == _MEMBERS
