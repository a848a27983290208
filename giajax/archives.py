"""Files of arrays, which are read in full or refused in one clear line.

Whatever two readers could take for two models is refused.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
import contextlib
import hashlib
import io
import math
import os
import pathlib
import pickle
import tokenize
from typing import Any, NamedTuple
import zipfile
import zlib

import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from giajax import files
from giajax import paths
from giajax import zips

# What numpy's headers, zlib and safetensors raise for bytes that are wrong.
_DAMAGED = (
  EOFError,
  OSError,
  SyntaxError,
  ValueError,
  tokenize.TokenError,
  zlib.error,
  safetensors.SafetensorError,
)
# The largest size that a file may claim, in bytes and in multiples of its size.
_ROOM, _EXPANDS = 1 << 30, 4
_SHOWN = 4  # how many names are listed for each kind of problem
_TORCH = ('.pth', '.pt')
_HEADER = 1 << 14  # bytes of a header; numpy itself reads fewer
# The types of safetensors that numpy has.
_KINDS = (
  *('F64', 'F32', 'F16', 'BF16', 'I64', 'I32', 'I16', 'I8'),
  *('U64', 'U32', 'U16', 'U8', 'BOOL'),
)


class Head(NamedTuple):
  """What an array is, without its values."""

  shape: tuple[int, ...]
  dtype: np.dtype


class Arrays(Mapping[str, np.ndarray]):
  """The arrays of an npz by name, each read when it is asked for.

  It is closed at the end of a `with`. All of its methods raise ValueError where
  the file is not a whole npz of plain arrays.

  Args:
    path: the path of the file.
    kind: what it is, for the message.
    advice: what to do if it is not, for the message.
  """

  def __init__(
    self,
    path: str | os.PathLike,
    kind: str = 'npz of plain arrays',
    advice: str = 'write it again with np.savez',
  ):
    self._about = (path, kind, advice)
    self._members: dict[str, zips.Member] = {}
    with self._refusing(), contextlib.ExitStack() as stack:
      self._file = stack.enter_context(files.opened(path))
      members = zips.members(self._file)
      check_room(
        sum(member.size for member in members),
        pathlib.Path(path).stat().st_size,
      )
      names = [member.name.removesuffix('.npy') for member in members]
      files.check_names(names)
      if any(name.endswith('.npy') for name in names):
        raise ValueError('a name that ends in .npy, which numpy drops')
      self._members = dict(zip(names, members))
      stack.pop_all()
    if any(m.name != f'{n}.npy' for n, m in self._members.items()):
      self.close()
      raise ValueError(
        f'Expected an npz of plain arrays; got path={str(path)!r}, a zip of '
        'other files (such as those of torch.save); convert it by giajax '
        'convert'
      )

  def __getitem__(self, name: str) -> np.ndarray:
    """Returns an array; no more than its member is allocated."""
    member = self._members[name]
    with self._refusing():
      data = zips.content(self._file, member)
      (shape, dtype), by_columns, start = _head(data, member)
      flat = np.frombuffer(data, dtype, math.prod(shape), start)
      return flat.reshape(shape, order='F' if by_columns else 'C')

  def __iter__(self) -> Iterator[str]:
    """Yields the names, in the order of the file."""
    return iter(self._members)

  def __len__(self) -> int:
    """Returns the number of arrays."""
    return len(self._members)

  def __contains__(self, name: object) -> bool:
    """Returns whether an array exists, without reading it."""
    return name in self._members

  def __enter__(self) -> 'Arrays':
    """Returns itself."""
    return self

  def __exit__(self, *error: object) -> None:
    """Closes the file."""
    self.close()

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def head(self, name: str) -> Head:
    """Returns the shape and type of an array; its values are not read."""
    member = self._members[name]
    with self._refusing():
      return _head(zips.beginning(self._file, member, _HEADER), member)[0]

  def _refusing(self):
    return _refusing(*self._about)


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Returns the arrays of a file by name; nothing is ever unpickled.

  Args:
    path: the path of a .safetensors file, or of an npz under any other name.

  Raises:
    ValueError: the file does not exist, or is not a whole file of plain arrays.
  """
  if pathlib.Path(path).suffix != '.safetensors':
    with Arrays(path) as arrays:
      return dict(arrays)
  advice = 'write it again with safetensors'
  with _refusing(path, 'safetensors file', advice):
    _check_tensors(path)
    return safetensors_numpy.load_file(path)


def metadata(path: str | os.PathLike) -> dict[str, str]:
  """Returns the metadata of a .safetensors file, {} where it has none.

  Raises:
    ValueError: the file does not exist, or is damaged.
  """
  advice = 'write it again with safetensors'
  with _refusing(path, 'safetensors file', advice):
    _check_tensors(path)
    with safetensors.safe_open(path, 'np') as opened:
      return dict(opened.metadata() or {})


def read_any(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Returns the arrays of a file by name, including files of torch.save.

  Args:
    path: as for `read`; or a .pth or .pt, which is read with
      `weights_only=True` where torch is installed. The names of nested dicts
      are joined by dots; whatever is not a tensor is left out.

  Raises:
    ValueError: as for `read`; or torch is missing, or the file holds more than
      tensors.
  """
  if pathlib.Path(path).suffix not in _TORCH:
    return read(path)
  got = f'path={str(path)!r}'
  whole = (path, 'state dict', 'save model.state_dict() again')
  with _refusing(*whole):
    _check_torch(path)
  try:
    import torch  # pyrefly: ignore
  except ImportError as error:
    raise ValueError(
      f'Expected torch for a file of torch.save; got {got} without it; install '
      'giajax[torch], or write the tensors as safetensors where torch is'
    ) from error
  try:
    loaded = torch.load(path, map_location='cpu', weights_only=True)
  except (*_DAMAGED, pickle.UnpicklingError, RuntimeError, KeyError) as error:
    raise ValueError(
      f'Expected a whole state dict of tensors only; got {got} '
      f'({_reason(error)}); save model.state_dict() again'
    ) from error
  with _refusing(*whole):
    tensors = [(k, v) for k, v in _flat(loaded) if isinstance(v, torch.Tensor)]
    files.check_names(name for name, _ in tensors)

  def numbers(tensor):
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:  # numpy has none of its own
      import ml_dtypes  # a part of JAX

      return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()

  return {name: numbers(tensor) for name, tensor in tensors}


def under(
  arrays: Mapping[str, np.ndarray], prefix: str, path: str | os.PathLike
) -> dict[str, np.ndarray]:
  """Returns the arrays whose names are under a dotted prefix, without it.

  Args:
    arrays: the arrays, by name.
    prefix: the leading parts of the wanted names; '' for all.
    path: the path that they were read from, for the message.

  Raises:
    ValueError: nothing is under `prefix`.
  """
  start = f'{prefix}.' if prefix else ''
  part = {k[len(start) :]: v for k, v in arrays.items() if k.startswith(start)}
  if not part:
    groups = sorted({name.partition('.')[0] for name in arrays})
    raise ValueError(
      f'Expected names under prefix={prefix!r} in path={str(path)!r}; got '
      f'{listed(groups)}; correct the prefix'
    )
  return part


def listed(names: Sequence[str]) -> str:
  """Returns the first few of some names, and how many more there are."""
  shown = ', '.join(names[:_SHOWN])
  rest = len(names) - _SHOWN
  return f'{shown} and {rest} more' if rest > 0 else shown


def write(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes an npz completely, or not at all.

  Args:
    path: a path that ends in .npz; an existing file is replaced.
    arrays: the arrays, by name.

  Raises:
    ValueError: the path has another ending, or cannot be written.
  """
  path = pathlib.Path(path)
  check(path)
  try:
    with files.written(path) as made, open(made, 'wb') as file:
      np.savez(file, **dict(arrays))  # pyrefly: ignore
  except OSError as error:
    raise ValueError(
      f'Expected a place that can be written; got {str(path)!r} '
      f'({error.strerror}); choose another'
    ) from error


def sha256(path: str | os.PathLike) -> str:
  """Returns the SHA-256 of a file's content, 64 hex digits."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def check(path: str | os.PathLike) -> None:
  """Raises ValueError where `write` would, but before the work."""
  path = pathlib.Path(path)
  paths.expanded(files.partial(path), 'the name of a file')
  if path.suffix != '.npz':
    raise ValueError(
      f'Expected a name that ends in .npz; got {str(path)!r}; rename it'
    )
  if not os.access(path.parent, os.W_OK):
    raise ValueError(
      f'Expected a folder that can be written; got {str(path.parent)!r}; '
      'choose or make another'
    )


def check_room(claimed: int, size: int) -> None:
  """Raises ValueError for a file that would grow beyond reason in memory.

  Args:
    claimed: the number of bytes that it claims to hold.
    size: the number of bytes on disk.
  """
  if claimed > max(_ROOM, _EXPANDS * size):
    raise ValueError(f'{claimed} bytes claimed by a file of {size}')


def _head(data: bytes, member: zips.Member) -> tuple[Head, bool, int]:
  """Returns what an array is, whether by columns, and where its values begin.

  Args:
    data: the member, or its beginning.
    member: a member of an npz.
  """
  stream = io.BytesIO(data)
  version = np.lib.format.read_magic(stream)
  if version not in _HEADERS:
    raise ValueError(f'version {version} of {member.name!r}')
  read_header, place = _HEADERS[version]
  shape, by_columns, dtype = read_header(stream)
  start = stream.tell()
  tree = ast.parse(data[place:start].decode('latin1').strip(), mode='eval').body
  if not isinstance(tree, ast.Dict) or len(tree.keys) != 3:
    raise ValueError(f'a key twice in the header of {member.name!r}')
  if dtype.hasobject:
    raise ValueError(f'objects in {member.name!r}')
  if min(shape, default=0) < 0:
    raise ValueError(f'shape {shape} of {member.name!r}')
  if math.prod(shape) * dtype.itemsize != member.size - start:
    raise ValueError(f'{member.name!r} of another length than its shape')
  return Head(shape, dtype), by_columns, start


# What reads a header of each version, and where its text begins.
_HEADERS = {
  (1, 0): (np.lib.format.read_array_header_1_0, 10),
  (2, 0): (np.lib.format.read_array_header_2_0, 12),
}


def _check_tensors(path: str | os.PathLike) -> None:
  """Checks what safetensors itself does not: names, each once, and types."""
  with files.opened(path) as file:
    size = int.from_bytes(file.read(8), 'little')
    if size > pathlib.Path(path).stat().st_size:
      raise ValueError(f'a header of {size} bytes')
    header = files.parsed(file.read(size))
  if not isinstance(header, dict):
    raise ValueError('a header of another kind')
  files.check_names(header)
  for name, entry in header.items():
    kind = entry.get('dtype') if isinstance(entry, dict) else None
    if name != '__metadata__' and kind not in _KINDS:
      raise ValueError(f'{name!r} of the type {kind!r}')


def _check_torch(path: str | os.PathLike) -> None:
  """Checks that a file of torch, if it is a zip, has one reading only."""
  with files.opened(path) as file:
    begin = file.read(4)
    if begin != b'PK\3\4' and not zipfile.is_zipfile(file):
      return  # from before torch wrote zips
    names = [member.name for member in zips.members(file)]
  # Torch finds members by name whatever the case, in the folder of the first.
  files.check_names(name.lower() for name in names)
  folders = {name.partition('/')[0] for name in names}
  if len(folders) > 1:
    raise ValueError(f'several folders: {listed(sorted(folders))}')


def _flat(tree: Any, path: str = '') -> Iterator[tuple[str, Any]]:
  if not isinstance(tree, Mapping):
    yield path, tree
    return
  for key, value in tree.items():
    yield from _flat(value, f'{path}.{key}' if path else str(key))


@contextlib.contextmanager
def _refusing(
  path: str | os.PathLike, kind: str, advice: str
) -> Iterator[None]:
  """Turns whatever is wrong with a file into one line."""
  got = f'path={str(path)!r}'
  try:
    yield
  except FileNotFoundError as error:
    raise _missing(got) from error
  except _DAMAGED as error:
    raise ValueError(
      f'Expected a whole {kind}; got {got} ({_reason(error)}); {advice}'
    ) from error


def _missing(got: str) -> ValueError:
  return ValueError(
    f'Expected a file of weights; got {got}, which does not exist; correct '
    'the path'
  )


def _reason(error: BaseException) -> str:
  text = (str(error).strip() or 'no message').splitlines()[0]
  return f'{type(error).__name__}: {text}'
