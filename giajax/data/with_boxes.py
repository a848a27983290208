"""What data sets of objects in images share."""

from collections.abc import Callable, Iterable, Sequence
import os
import pathlib

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from giajax import printable
from giajax import types
from giajax.data import base
from giajax.data import letterbox
from giajax.data import memory
from giajax.tasks.parts import objects as records

MOST = 10_000  # slots for objects
STRIDE = 32  # what detectors divide the sides of their images by


def check_size(size: int, max_objects: int, fill: int = 0) -> None:
  """Refuses squares that detectors cannot read.

  Args:
    size: the side of the images.
    max_objects: the number of slots.
    fill: the grey level of bars.

  Raises:
    ValueError: a side that 32 does not divide, or a number out of range.
  """
  if size < STRIDE or size % STRIDE:
    raise ValueError(
      f'Expected a size that {STRIDE} divides, for the strides of detectors; '
      f'got size={size}; use {max(STRIDE, round(size / STRIDE) * STRIDE)}'
    )
  if not 1 <= max_objects <= MOST:
    raise ValueError(
      f'Expected max_objects from 1 to {MOST}; got max_objects={max_objects}; '
      'correct it'
    )
  if not 0 <= fill <= 255:
    raise ValueError(
      f'Expected fill from 0 to 255; got fill={fill}; 114 is usual'
    )


def dataset(
  *,
  name: str,
  size: int,
  class_names: Sequence[str],
  objects: Sequence[records.Objects],
  note: str,
  read: Callable[[int], np.ndarray],
  places: Sequence[letterbox.Place] = (),
  files: Iterable[str | os.PathLike] = (),
) -> base.Dataset:
  """Returns a data set of square images and the objects in them.

  The class by which rules choose an image is that of its largest object, and 0
  where there is none.

  Args:
    name: the name in reports.
    size: the side of every image.
    class_names: one name per class.
    objects: of each image, in the same number of slots.
    note: source and licence, one line.
    read: index -> [size, size, 3] float32 in [0, 1].
    places: where each image is in its square; none where all fill theirs.
    files: that it reads.

  Raises:
    ValueError: objects that are none, see `objects.check`.
  """
  y = records.Objects(*(np.stack(leaves) for leaves in zip(*objects)))
  records.check(y, len(objects), len(class_names))
  sides = y.boxes[..., 2:] - y.boxes[..., :2]
  largest = np.where(y.valid, np.prod(sides, axis=-1), -1.0).argmax(axis=1)
  labels = np.where(
    y.valid.any(1), y.classes[np.arange(len(objects)), largest], 0
  )

  def take(indices: npt.ArrayLike) -> types.Batch:
    indices = base.check_indices(indices, len(objects))
    x = np.stack([memory.remembered(read, int(i)) for i in indices])
    own = records.Objects(*(jnp.asarray(leaf[indices]) for leaf in y))
    return types.Batch(jnp.asarray(x), own)

  return base.Dataset(
    name=printable.line(name),
    image_shape=(size, size, 3),
    num_classes=len(class_names),
    class_names=tuple(map(printable.line, class_names)),
    labels=labels.astype(np.int32),
    note=printable.line(note),
    take=take,
    files=tuple(pathlib.Path(path).absolute() for path in files),
    objects=y.valid.sum(1).astype(np.int32),
    content=np.array([at.corners for at in places], np.int32)
    if places
    else None,
  )
