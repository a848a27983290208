"""Arrays in a file: images, or rows of a table, and targets of any form."""

from collections.abc import Mapping, Sequence
import os

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from giajax import archives
from giajax import paths
from giajax import trees
from giajax import types
from giajax.data import base
from giajax.data import scale as scales

_TABLE, _IMAGES = 2, 4  # axes


def load(
  *,
  path: str | os.PathLike,
  num_classes: int = 0,
  class_names: Sequence[str] = (),
  low: float | Sequence[float] = 0.0,
  high: float | Sequence[float] = 1.0,
  columns: Sequence[str] = (),
) -> base.Dataset:
  """Images or rows of a table, and targets of any form, from a file of arrays.

  The file is an npz or a .safetensors. It holds `x`, [size, H, W, C] for images
  of any number of channels, or [size, F] for rows of a table. It also holds the
  targets `y` [size, ...], or `y.NAME` [size, ...] for targets of several parts.
  Integers [size] are class indices. The rules that choose images by their
  class see a single class where targets are of another form.

  Args:
    path: the file; `~` is expanded.
    num_classes: the number of outputs of a network for these data: classes,
      labels, or numbers. 0 takes it from `y`: one more than the largest class
      index, or the last axis of [size, K].
    class_names: one name per class; their numbers if empty.
    low: the values of x that become 0, for each channel or for all.
    high: the values that become 1. Bytes are images from 0 to 255 where neither
      is set.
    columns: one name per channel, for the report.

  Raises:
    ValueError: a file that is missing or damaged, lacks x or y, or has them in
      another form; values outside their range; or another number of names.
  """
  path = paths.expanded(path, 'dataset.path')
  arrays = archives.read(path)
  x = _images(arrays, str(path))
  y = _targets(arrays, len(x), str(path))
  scale = scales.make(low, high, columns, x.shape[-1])
  x = scales.to_unit(x, scale, f'x in {path}')
  classes = num_classes or _classes(y)
  names = base.class_names(class_names, classes)
  labels = y if _is_classes(y) else np.zeros(len(x), np.int32)
  labels = base.check_labels(labels, classes)

  def take(indices: npt.ArrayLike) -> types.Batch:
    indices = base.check_indices(indices, len(x))
    own = jax.tree.map(lambda leaf: jnp.asarray(leaf[indices]), y)
    return types.Batch(jnp.asarray(x[indices]), own)

  return base.Dataset(
    name=path.stem,
    image_shape=x.shape[1:],
    num_classes=classes,
    class_names=names,
    labels=labels,
    note=f'arrays of {path.name}',
    take=take,
    files=(path.absolute(),),
    scale=scale,
  )


def _images(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
  """Returns x as [size, H, W, C]."""
  x = arrays.get('x')
  if x is None or x.ndim not in (_TABLE, _IMAGES) or not x.size:
    got = 'none' if x is None else f'shape={x.shape}'
    raise ValueError(
      f'Expected x in {name}, [size, H, W, C] for images or [size, F] for rows '
      f'of a table; got {got} of {archives.listed(sorted(arrays))}; '
      'save it by np.savez(..., x=x, y=y)'
    )
  return x.reshape(len(x), *scales.shape_of(x.shape[1:]))


def _targets(
  arrays: Mapping[str, np.ndarray], count: int, name: str
) -> types.Tree:
  """Returns the targets, one per image."""
  y = trees.under('y', arrays)
  leaves = trees.named_leaves(y)
  wrong = {n: a.shape for n, a in leaves.items() if a.shape[:1] != (count,)}
  if wrong or not leaves:
    got = 'none'
    if wrong:
      part, shape = next(iter(wrong.items()))
      got = f'y{"." if part else ""}{part} of shape {shape}'
    raise ValueError(
      f'Expected y or y.NAME in {name}, a target for each of {count} images; '
      f'got {got}; save them by np.savez(..., x=x, y=y)'
    )
  return jax.tree.map(narrowed, y)


def narrowed(array: np.ndarray) -> np.ndarray:
  """Returns an array of 32 bits where JAX would make it one: int32, float32."""
  kinds = {'i': np.int32, 'u': np.int32, 'f': np.float32}
  return array.astype(kinds.get(array.dtype.kind, array.dtype))


def _is_classes(y: types.Tree) -> bool:
  return isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype.kind == 'i'


def _classes(y: types.Tree) -> int:
  """Returns the number of outputs that targets ask for."""
  if _is_classes(y):
    return int(y.max()) + 1
  if isinstance(y, np.ndarray) and y.ndim == 2:
    return y.shape[1]
  raise ValueError(
    'Expected num_classes for targets that are neither class indices [size] '
    'nor [size, K]; got none; set dataset.num_classes'
  )
