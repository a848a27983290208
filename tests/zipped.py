"""Zips made by hand, honest ones and others."""

import io
import struct
import zipfile
import zlib

import numpy as np


def npy(array):
  """Returns the bytes of a .npy file."""
  stream = io.BytesIO()
  np.save(stream, array)
  return stream.getvalue()


def zip(members, method=zipfile.ZIP_STORED):
  """Returns a zip of bytes by name, as zipfile writes it."""
  stream = io.BytesIO()
  with zipfile.ZipFile(stream, 'w', method) as file:
    for name, data in members.items():
      file.writestr(name, data)
  return stream.getvalue()


def torch(members, folders=('a',)):
  """Returns a zip of bytes by name, laid out as by torch.save.

  The data is padded from before, what it is stands behind it, and the end has
  wide numbers. Members are put into the folders in turn.
  """
  body, directory = b'', b''
  for i, (name, data) in enumerate(members.items()):
    name, padding = f'{folders[i % len(folders)]}/{name}'.encode(), b'FB\3\0ZZZ'
    sums = zlib.crc32(data), len(data), len(data)
    lengths = struct.pack('<2H', len(name), len(padding))
    kind = struct.pack('<4H', 0, 0x808, 0, 0)
    directory += struct.pack('<4sH', b'PK\1\2', 0) + kind + bytes(2)
    directory += struct.pack('<3L4H', *sums, len(name), 0, 0, 0)
    directory += struct.pack('<HLL', 0, 0, len(body)) + name
    body += b'PK\3\4' + kind + bytes(14) + lengths + name + padding + data
    body += b'PK\7\x08' + struct.pack('<3L', *sums)
  count, place = len(members), len(body)
  end = struct.pack('<4sQ2H2L', b'PK\6\6', 44, 0, 0, 0, 0)
  end += struct.pack('<4Q', count, count, len(directory), place)
  end += struct.pack('<4sLQL', b'PK\6\7', 0, place + len(directory), 1)
  end += struct.pack('<4s4H', b'PK\5\6', 0, 0, count, count)
  end += struct.pack('<2LH', len(directory), place, 0)
  return body + directory + end
