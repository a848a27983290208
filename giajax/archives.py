"""Reading an npz of a user: whole, plain arrays, or one clear line."""

import os
import zipfile
import zlib

import numpy as np

_DAMAGED = (EOFError, OSError, ValueError, zipfile.BadZipFile, zlib.error)


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Returns the arrays of an npz by name; nothing is ever unpickled.

  Raises:
    ValueError: no such file, or no whole npz of plain arrays.
  """
  got = f'path={str(path)!r}'
  try:
    with zipfile.ZipFile(path):  # a lone .npy or a pickle is refused here
      pass
    with np.load(path, allow_pickle=False) as archive:
      arrays = {name: archive[name] for name in archive.files}
  except FileNotFoundError as error:
    raise ValueError(
      f'Expected a file of weights; got {got}, which does not exist; correct '
      'the path'
    ) from error
  except _DAMAGED as error:
    reason = (str(error).strip() or 'no message').splitlines()[0]
    raise ValueError(
      f'Expected a whole npz of plain arrays; got {got} '
      f'({type(error).__name__}: {reason}); write it anew by np.savez'
    ) from error
  if not all(isinstance(value, np.ndarray) for value in arrays.values()):
    raise ValueError(
      f'Expected an npz of plain arrays; got {got}, a zip of other files '
      '(such as those of torch.save); write its arrays by np.savez'
    )
  return arrays
