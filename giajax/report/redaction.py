"""A report that shows no image of a client, for readers who may not see it."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from giajax import archives
from giajax.results import stacks

_SIDE = 4  # blocks along the shorter side of an image


class Redacted(Mapping[str, np.ndarray]):
  """Arrays of a run without originals, and with coarse pictures.

  Args:
    arrays: those of `recon.npz`, by 'ROW/NAME'.
  """

  def __init__(self, arrays: stacks.Stacks):
    self._arrays = arrays

  def __getitem__(self, name: str) -> np.ndarray:
    """Returns an array; images are averaged over blocks.

    Raises:
      KeyError: there is none, or it is an original.
    """
    if name not in self:
      raise KeyError(name)
    value = self._arrays[name]
    return coarse(value) if name.partition('/')[2].startswith('x_') else value

  def __iter__(self) -> Iterator[str]:
    """Yields the names that are left."""
    return (name for name in self._arrays if name in self)

  def __len__(self) -> int:
    """Returns the number of arrays that are left."""
    return sum(1 for _ in self)

  def __contains__(self, name: object) -> bool:
    """Returns whether an array exists and may be shown."""
    return name in self._arrays and str(name).partition('/')[2] != 'x'

  def head(self, name: str) -> archives.Head:
    """Returns the shape and type of an array."""
    return self._arrays.head(name)

  def names(self, row: int) -> list[str]:
    """Returns the names of the arrays of a row that are left."""
    return [name for name in self._arrays.names(row) if name != 'x']

  def __enter__(self) -> 'Redacted':
    """Returns itself."""
    return self

  def __exit__(self, *error: Any) -> None:
    """Closes nothing: whoever opened the arrays does."""


def coarse(images: np.ndarray) -> np.ndarray:
  """Returns [B, H, W, C] images whose blocks have one colour each."""
  height, width = images.shape[1:3]
  block = max(2, -(-min(height, width) // _SIDE))
  result = np.empty_like(images)
  for top in range(0, height, block):
    for left in range(0, width, block):
      part = np.s_[:, top : top + block, left : left + block]
      result[part] = images[part].mean(axis=(1, 2), keepdims=True)
  return result
