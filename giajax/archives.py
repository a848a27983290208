"""Files of arrays, which are read in full or refused in one clear line."""

from collections.abc import Mapping, Sequence
import hashlib
import io
import math
import os
import pathlib
import pickle
import tokenize
from typing import Any
import zipfile
import zlib

import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from giajax import paths

# What numpy's headers, zipfile and safetensors raise for bytes that are wrong.
_DAMAGED = (
  EOFError,
  NotImplementedError,
  OSError,
  SyntaxError,
  ValueError,
  tokenize.TokenError,
  zipfile.BadZipFile,
  zlib.error,
  safetensors.SafetensorError,
)
# The largest size that a file may claim, in bytes and in multiples of its size.
_ROOM, _EXPANDS = 1 << 30, 4
_SHOWN = 4  # how many names are listed for each kind of problem
_ENCRYPTED = 1  # of a zip's flags
_TORCH = ('.pth', '.pt')


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Returns the arrays of a file by name; nothing is ever unpickled.

  Args:
    path: the path of a .safetensors file, or of an npz under any other name.

  Raises:
    ValueError: the file does not exist, or is not a whole file of plain arrays.
  """
  got = f'path={str(path)!r}'
  tensors = pathlib.Path(path).suffix == '.safetensors'
  kind = 'safetensors file' if tensors else 'npz of plain arrays'
  try:
    if tensors:
      return safetensors_numpy.load_file(path)
    with zipfile.ZipFile(path) as archive:  # refuses a lone .npy, a pickle
      check_room(
        sum(member.file_size for member in archive.infolist()),
        pathlib.Path(path).stat().st_size,
      )
      names = archive.namelist()
      if len(set(names)) < len(names):
        raise ValueError('a name twice')
      arrays = {
        member.filename.removesuffix('.npy'): _member(archive, member)
        for member in archive.infolist()
      }
  except FileNotFoundError as error:
    raise _missing(got) from error
  except _DAMAGED as error:
    raise ValueError(
      f'Expected a whole {kind}; got {got} ({_reason(error)}); write it again '
      f'with {"safetensors" if tensors else "np.savez"}'
    ) from error
  if any(value is None for value in arrays.values()):
    raise ValueError(
      f'Expected an npz of plain arrays; got {got}, a zip of other files '
      '(such as those of torch.save); convert it by giajax convert'
    )
  return {name: array for name, array in arrays.items() if array is not None}


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
  try:
    import torch  # pyrefly: ignore
  except ImportError as error:
    raise ValueError(
      f'Expected torch for a file of torch.save; got {got} without it; install '
      'giajax[convert], or write the tensors as safetensors where torch is'
    ) from error
  try:
    loaded = torch.load(path, map_location='cpu', weights_only=True)
  except FileNotFoundError as error:
    raise _missing(got) from error
  except (*_DAMAGED, pickle.UnpicklingError, RuntimeError, KeyError) as error:
    raise ValueError(
      f'Expected a whole state dict of tensors only; got {got} '
      f'({_reason(error)}); save model.state_dict() again'
    ) from error
  return {
    name: (v.float() if v.is_floating_point() else v).detach().numpy()
    for name, v in _flat(loaded).items()
    if isinstance(v, torch.Tensor)
  }


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
  part = _part(path)
  try:
    with open(part, 'wb') as file:
      np.savez(file, **dict(arrays))  # pyrefly: ignore
    os.replace(part, path)
  except OSError as error:
    part.unlink(missing_ok=True)
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
  paths.expanded(_part(path), 'the name of a file')
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


def _member(
  archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> np.ndarray | None:
  """Returns an array of an npz, None for a member of another kind.

  Nothing larger than the member is allocated, whatever its header says.
  """
  if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
    raise ValueError(f'compression {member.compress_type}')
  if member.flag_bits & _ENCRYPTED:
    raise ValueError(f'{member.filename} is encrypted')
  data = archive.read(member)
  if not data.startswith(np.lib.format.MAGIC_PREFIX):
    return None
  stream = io.BytesIO(data)
  version = np.lib.format.read_magic(stream)
  if version not in _HEADERS:
    raise ValueError(f'version {version} of {member.filename}')
  shape, by_columns, dtype = _HEADERS[version](stream)
  count = math.prod(shape)
  if dtype.hasobject:
    raise ValueError(f'objects in {member.filename}')
  if count * dtype.itemsize != len(data) - stream.tell():
    raise ValueError(f'{member.filename} of another length than its shape')
  if min(shape, default=0) < 0:
    raise ValueError(f'shape {shape} of {member.filename}')
  flat = np.frombuffer(data, dtype, count, stream.tell())
  return flat.reshape(shape, order='F' if by_columns else 'C')


_HEADERS = {
  (1, 0): np.lib.format.read_array_header_1_0,
  (2, 0): np.lib.format.read_array_header_2_0,
}


def _part(path: pathlib.Path) -> pathlib.Path:
  return path.parent / f'{path.name}.{os.getpid()}.part'


def _flat(tree: Any, path: str = '') -> dict[str, Any]:
  if not isinstance(tree, Mapping):
    return {path: tree}
  out = {}
  for key, value in tree.items():
    out |= _flat(value, f'{path}.{key}' if path else str(key))
  return out


def _missing(got: str) -> ValueError:
  return ValueError(
    f'Expected a file of weights; got {got}, which does not exist; correct '
    'the path'
  )


def _reason(error: BaseException) -> str:
  text = (str(error).strip() or 'no message').splitlines()[0]
  return f'{type(error).__name__}: {text}'
