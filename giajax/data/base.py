"""A data set: its classes are known at once, its images are read on demand."""

from collections.abc import Callable, Iterable
import os
import pathlib
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from giajax import printable
from giajax import types
from giajax.data import memory
from giajax.data import scale as scales


class Dataset(NamedTuple):
  """Images of one shape and their targets, which are classes in most of them.

  Attributes:
    name: the name in reports.
    image_shape: (H, W, C); (1, 1, F) for rows of a table.
    num_classes: K, the size of the last layer of a network for them.
    class_names: [num_classes].
    labels: [size] int32 in [0, num_classes), the classes by which images are
      chosen and compared; 0 for targets that are no classes.
    note: source and licence, for the report.
    take: indices [B] -> Batch.
    files: the files that `take` reads.
    scale: the units of the channels, None for [0, 1].
    objects: the number of objects in each image, [size] int32; None where
      targets are no objects.
    content: where each image is in its letterbox, [size, 4] int32 (top, left,
      bottom, right) in pixels; None where images fill theirs.
  """

  name: str
  image_shape: tuple[int, int, int]
  num_classes: int
  class_names: tuple[str, ...]
  labels: np.ndarray
  note: str
  take: Callable[[npt.ArrayLike], types.Batch]
  files: tuple[pathlib.Path, ...] = ()
  scale: scales.Scale | None = None
  objects: np.ndarray | None = None
  content: np.ndarray | None = None

  def content_of(self, indices: npt.ArrayLike) -> np.ndarray:
    """Returns rows of `content`, [B, 4]; all of an image that has no bars."""
    if self.content is None:
      height, width, _ = self.image_shape
      whole = np.array([0, 0, height, width], np.int32)
      return np.tile(whole, (np.size(indices), 1))
    return self.content[np.asarray(indices)]

  @property
  def size(self) -> int:
    """The number of images."""
    return len(self.labels)


def dataset(
  *,
  name: str,
  image_shape: tuple[int, int, int],
  class_names: tuple[str, ...],
  labels: npt.ArrayLike,
  note: str,
  read: Callable[[int], np.ndarray],
  files: Iterable[str | os.PathLike] = (),
) -> Dataset:
  """Returns a data set whose `take` reads one image after the other.

  Args:
    name: the name in reports.
    image_shape: (H, W, C) of every image.
    class_names: one name per class; their number is the number of classes.
    labels: [size] class indices.
    note: source and licence, one line.
    read: index -> [H, W, C] float32 in [0, 1].
    files: that it reads, by the places where it looks for them: a link is not
      followed, as its place may be its class.

  Raises:
    ValueError: a label is outside [0, K). `take` raises it for an index
      outside [0, size), and for an image of another shape.
  """
  labels = check_labels(labels, len(class_names))

  def take(indices: npt.ArrayLike) -> types.Batch:
    indices = check_indices(indices, len(labels))
    x = [memory.remembered(read, int(i)) for i in indices]
    other = next((i.shape for i in x if i.shape != image_shape), None)
    if other is not None:
      raise ValueError(
        f'Expected images of shape {image_shape} in {name}; got one of shape '
        f'{other}; correct what describes the data set'
      )
    return types.Batch(jnp.asarray(np.stack(x)), jnp.asarray(labels[indices]))

  return Dataset(
    name=printable.line(name),
    image_shape=image_shape,
    num_classes=len(class_names),
    class_names=tuple(map(printable.line, class_names)),
    labels=labels,
    note=printable.line(note),
    take=take,
    files=tuple(pathlib.Path(path).absolute() for path in files),
  )


def class_names(names: Iterable[str], num_classes: int) -> tuple[str, ...]:
  """Returns a name for each class: those given, or their numbers.

  Raises:
    ValueError: another number of names than classes.
  """
  names = tuple(names) or tuple(map(str, range(num_classes)))
  if len(names) != num_classes:
    raise ValueError(
      f'Expected a name for each of {num_classes} classes; got '
      f'{len(names)} in class_names; add or remove some'
    )
  return tuple(map(printable.line, names))


def check_alike(one: Dataset, other: Dataset, name: str) -> None:
  """Refuses a data set that cannot stand in for another.

  Args:
    one: the data set.
    other: the data set that it should be like.
    name: the key of `one` in a config.

  Raises:
    ValueError: images of another shape, or another number of classes.
  """
  got, expected = (
    f'{d.name} of shape {d.image_shape} in {d.num_classes} classes'
    for d in (one, other)
  )
  if (one.image_shape, one.num_classes) != (
    other.image_shape,
    other.num_classes,
  ):
    raise ValueError(
      f'Expected images like those of {expected}; got {name}={got}; set its '
      'size, or choose another'
    )


def check_labels(labels: npt.ArrayLike, num_classes: int) -> np.ndarray:
  """Returns `labels` as [size] int32.

  Raises:
    ValueError: they are not one integer per image, or one is outside
      [0, num_classes).
  """
  return _integers(labels, num_classes, 'label', 'num_classes')


def check_indices(indices: npt.ArrayLike, size: int) -> np.ndarray:
  """Returns `indices` as [B] int32.

  Raises:
    ValueError: they are not a non-empty list of integers, or one is outside
      [0, size).
  """
  return _integers(indices, size, 'index', 'size')


def _integers(
  values: npt.ArrayLike, limit: int, name: str, limit_name: str
) -> np.ndarray:
  values = np.asarray(values)
  if (
    values.ndim != 1
    or not values.size
    or not np.issubdtype(values.dtype, np.integer)
  ):
    raise ValueError(
      f'Expected a non-empty list of integers, one {name} per image; got '
      f'shape={values.shape}, dtype={values.dtype}; pass them as [B] integers'
    )
  wrong = values[(values < 0) | (values >= limit)]
  if wrong.size:
    raise ValueError(
      f'Expected every {name} in [0, {limit_name}={limit}); got '
      f'{name}={wrong[0]} ({wrong.size} of {values.size} are outside); '
      f'correct it or raise {limit_name}'
    )
  return values.astype(np.int32)
