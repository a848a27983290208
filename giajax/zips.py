"""Zips that have one reading only.

A zip says everything twice: before each member, and in the directory at its
end. Some readers follow the one, some the other, and what one of them passes
over can be another's file. Accepted are zips as numpy and torch write them:
member after member from the first byte, then the directory, which lists the
members in this order and says of each what stands before it, then the one
record of the end, which ends the file. PKWARE's APPNOTE names the fields.
"""

from collections.abc import Sequence
import os
import struct
from typing import Any, BinaryIO, NamedTuple
import zlib

# What none of them needs, such as the time, is passed over.
_LOCAL = struct.Struct('<4s2x2H4x3L2H')
_ENTRY = struct.Struct('<4s4x2H4x3L4H6xL')
_END = struct.Struct('<4s4H2LH')
_WIDE_END = struct.Struct('<4sQ4x2L4Q')  # zip64's, with wide numbers
_LOCATOR = struct.Struct('<4sLQL')
# What may follow the data of a member.
_NONE = struct.Struct('')
_NARROW, _WIDE = struct.Struct('<4s3L'), struct.Struct('<4sL2Q')
_MOST, _MOST_MEMBERS = 0xFFFFFFFF, 0xFFFF  # this number is in a wide field
_STORED, _DEFLATED = 0, 8
_TRAILED, _UTF8 = 0x8, 0x800  # flags: sizes follow the data; names are UTF-8
_FLAGS = _TRAILED | _UTF8 | 0x6  # and how hard deflate has tried
_SLACK = 1 << 10  # bytes by which deflate may make a beginning longer
_WIDTHS, _PADDING = 1, 0x4246  # extra fields; the second is torch's


class Member(NamedTuple):
  """A file within a zip.

  Attributes:
    name: its name.
    start: where its bytes begin.
    stored: the number of its bytes in the zip.
    size: the number of bytes that they become.
    deflated: whether they are compressed.
    checksum: the CRC-32 of what they become.
  """

  name: str
  start: int
  stored: int
  size: int
  deflated: bool
  checksum: int


class _Entry(NamedTuple):
  """What the directory says about a member."""

  raw: bytes
  flags: int
  method: int
  checksum: int
  stored: int
  size: int
  start: int  # of what stands before it


def members(file: BinaryIO) -> list[Member]:
  """Returns the members of a zip, in their order; their content is not read.

  Args:
    file: the whole zip.

  Raises:
    ValueError: it is no zip, or one that could be read in several ways.
  """
  begin, count, data = _directory(file)
  entries = _entries(data)
  if len(entries) != count:
    raise ValueError(f'a directory of {len(entries)} members, not {count}')
  stops = [*(entry.start for entry in entries[1:]), begin]
  if (entries[0].start if entries else begin) != 0:
    raise ValueError('bytes before the first member')
  return [_member(file, *pair) for pair in zip(entries, stops)]


def content(file: BinaryIO, member: Member) -> bytes:
  """Returns what a member holds; no more than it claims to is allocated.

  Args:
    file: the zip.
    member: one of its members.

  Raises:
    ValueError: its bytes are not what the zip says about them.
    zlib.error: they are not compressed bytes.
  """
  file.seek(member.start)
  data = file.read(member.stored)
  if member.deflated:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    data = stream.decompress(data, member.size + 1)
    if not stream.eof or stream.unused_data:
      raise ValueError(f'{member.name!r} of another size')
  if len(data) != member.size:
    raise ValueError(f'{member.name!r} of another size')
  if zlib.crc32(data) != member.checksum:
    raise ValueError(f'{member.name!r} with another checksum')
  return data


def beginning(file: BinaryIO, member: Member, size: int) -> bytes:
  """Returns the first bytes of a member, which are not checked.

  Args:
    file: the zip.
    member: one of its members.
    size: their number, at the most.

  Raises:
    zlib.error: they are not compressed bytes.
  """
  file.seek(member.start)
  data = file.read(min(size + _SLACK, member.stored))
  if member.deflated:
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size)
  return data[:size]


def _directory(file: BinaryIO) -> tuple[int, int, bytes]:
  """Returns where the directory begins, its number of members, and itself."""
  stop = file.seek(0, os.SEEK_END) - _END.size
  if stop < 0:
    raise ValueError('no zip')
  sign, *disks, here, count, size, begin, comment = _unpack(file, _END, stop)
  if sign != b'PK\5\6':
    raise ValueError('no zip, or bytes after its end')
  if any(disks) or here != count or comment:
    raise ValueError('a zip in several pieces, or with a comment')
  if stop >= _LOCATOR.size + _WIDE_END.size:
    sign, disk, place, pieces = _unpack(file, _LOCATOR, stop - _LOCATOR.size)
    if sign == b'PK\6\7':
      stop -= _LOCATOR.size + _WIDE_END.size
      sign, length, *disks, here, wide, wide_size, wide_begin = _unpack(
        file, _WIDE_END, stop
      )
      narrow, wider = (count, size, begin), (wide, wide_size, wide_begin)
      limits = (_MOST_MEMBERS, _MOST, _MOST)
      if (
        (sign, length, place) != (b'PK\6\6', _WIDE_END.size - 12, stop)
        or (disk, pieces, *disks, here) != (0, 1, 0, 0, wide)
        or any(a not in (b, m) for a, b, m in zip(narrow, wider, limits))
      ):
        raise ValueError('two ends of the zip that differ')
      count, size, begin = wider
  if begin + size != stop:
    raise ValueError('a gap or an overlap at the directory')
  file.seek(begin)
  return begin, count, file.read(size)


def _entries(data: bytes) -> list[_Entry]:
  entries, place = [], 0
  while place < len(data):
    if place + _ENTRY.size > len(data):
      raise ValueError('a torn directory')
    sign, flags, method, *sums, length, extra, comment, disk, start = (
      _ENTRY.unpack_from(data, place)
    )
    place += _ENTRY.size
    raw = data[place : place + length]
    fields = _fields(data[place + length : place + length + extra])
    place += length + extra
    if sign != b'PK\1\2' or place > len(data) or comment or disk:
      raise ValueError('a directory with more than names and sizes')
    wide = fields.pop(_WIDTHS, [])
    checksum, stored, size = sums
    numbers = [size, stored, start]
    if fields or len(wide) != numbers.count(_MOST):
      raise ValueError('extra fields that some readers pass over')
    wide = iter(wide)
    size, stored, start = (next(wide) if n == _MOST else n for n in numbers)
    entries.append(_Entry(raw, flags, method, checksum, stored, size, start))
  return entries


def _member(file: BinaryIO, entry: _Entry, stop: int) -> Member:
  """Returns a member, compared with what stands before and after it.

  Args:
    file: the zip.
    entry: of the member.
    stop: where the next member begins, or the directory.
  """
  name = _name(entry)
  if entry.flags & ~_FLAGS or entry.method not in (_STORED, _DEFLATED):
    raise ValueError(
      f'{name!r} encrypted or compressed by another method than deflate'
    )
  if not 0 <= entry.start <= stop - _LOCAL.size:
    raise ValueError(f'{name!r} out of order, or over another member')
  sign, flags, method, *sums, length, extra = _unpack(file, _LOCAL, entry.start)
  raw, fields = file.read(length), _fields(file.read(extra))
  fields.pop(_PADDING, None)
  start = entry.start + _LOCAL.size + length + extra
  true = [entry.checksum, entry.stored, entry.size]
  if (
    sign != b'PK\3\4'
    or (raw, flags, method) != (entry.raw, entry.flags, entry.method)
    or not _agree(sums, fields, entry)
    or (entry.method == _STORED and entry.stored != entry.size)
  ):
    raise ValueError(f'{name!r} of two kinds, names or sizes')
  end = start + entry.stored
  forms = (_NARROW, _WIDE) if flags & _TRAILED else (_NONE,)
  form = next((form for form in forms if end + form.size == stop), None)
  if form is None:
    raise ValueError(f'a gap or an overlap after {name!r}')
  if form.size and _unpack(file, form, end) != (b'PK\7\x08', *true):
    raise ValueError(f'{name!r} of two sizes')
  deflated = entry.method == _DEFLATED
  return Member(name, start, entry.stored, entry.size, deflated, entry.checksum)


def _agree(sums: Sequence[int], fields: dict[int, Any], entry: _Entry) -> bool:
  """Returns whether what stands before a member is what the directory says."""
  true = [entry.size, entry.stored, entry.start]
  checksum, stored, size = sums
  wide, narrow = fields.pop(_WIDTHS, []), [size, stored]
  if narrow == [_MOST, _MOST]:
    narrow = wide[:2]
  if entry.flags & _TRAILED and not any((checksum, *narrow)):
    # They follow the data; torch sets some of the wide ones here all the same.
    checksum, narrow = entry.checksum, true[:2]
    wide = [number for number in wide if number]
  rest = iter(true)
  return (
    not fields
    and (checksum, *narrow) == (entry.checksum, *true[:2])
    and all(number in rest for number in wide)  # in this order
  )


def _fields(extra: bytes) -> dict[int, Any]:
  """Returns extra fields by their kind, the wide numbers as such."""
  fields, place = {}, 0
  while place < len(extra):
    if place + 4 > len(extra):
      raise ValueError('a torn extra field')
    kind, length = struct.unpack_from('<2H', extra, place)
    data = extra[place + 4 : place + 4 + length]
    place += 4 + length
    if place > len(extra) or kind in fields or (kind == _WIDTHS and length % 8):
      raise ValueError('a torn extra field, or one twice')
    wide = kind == _WIDTHS
    fields[kind] = [*struct.unpack(f'<{length // 8}Q', data)] if wide else data
  return fields


def _name(entry: _Entry) -> str:
  """Returns a member's name, which no reader decodes otherwise."""
  name = entry.raw.decode('utf-8' if entry.flags & _UTF8 else 'ascii')
  if not name.isprintable() or '\\' in name:
    raise ValueError(f'the name {name[:40]!a}, which readers change')
  return name


def _unpack(file: BinaryIO, form: struct.Struct, place: int) -> tuple[Any, ...]:
  file.seek(place)
  data = file.read(form.size)
  if len(data) < form.size:
    raise ValueError('a torn zip')
  return form.unpack(data)
