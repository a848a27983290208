"""Rectangles and discs drawn on photographs: objects that need no download.

Image i has one to four shapes on photograph i mod 16, where they were drawn by
a generator of its own: the same on every machine. Class 0 is a rectangle, class
1 a disc; later shapes cover earlier ones. The split 'train' has other shapes on
the same photographs, for a detector to learn from.
"""

import numpy as np

from giajax import registry
from giajax.data import base
from giajax.data import photographs
from giajax.data import with_boxes
from giajax.tasks.parts import objects as records

_CLASSES = ('rectangle', 'disc')
_MOST = 4  # shapes in an image
_IMAGES = 100_000  # whose shapes are drawn at once
_SPLITS = {'test': (), 'train': (1,)}  # what their generators are named by


def load(
  *,
  size: int = 64,
  count: int = 32,
  max_objects: int = _MOST,
  split: str = 'test',
) -> base.Dataset:
  """Rectangles and discs on photographs.

  Args:
    size: the side of the images, which 32 divides.
    count: the number of images.
    max_objects: the number of slots for objects, at least 4.
    split: 'test', or 'train' for others.

  Raises:
    ValueError: a size that 32 does not divide, no image, fewer slots, or an
      unknown split.
  """
  with_boxes.check_size(size, max_objects)
  if not 1 <= count <= _IMAGES or max_objects < _MOST:
    raise ValueError(
      f'Expected count from 1 to {_IMAGES} and max_objects >= {_MOST}; got '
      f'count={count}, max_objects={max_objects}; correct them'
    )
  stream = registry.lookup(_SPLITS, split, 'split')
  ground = photographs.load(size=size)
  shapes = [_shapes(i, stream) for i in range(count)]

  def read(index: int) -> np.ndarray:
    x = np.array(ground.take([index % ground.size]).x[0])
    for box, kind, colour in zip(*shapes[index]):
      x[_mask(box, kind, size)] = colour
    return x

  return with_boxes.dataset(
    name='shapes' if split == 'test' else f'shapes, {split}',
    size=size,
    class_names=_CLASSES,
    objects=[
      records.padded(boxes, kinds, max_objects, f'image {i}')
      for i, (boxes, kinds, _) in enumerate(shapes)
    ],
    note=f'shapes drawn on photographs; {ground.note}',
    read=read,
    files=ground.files,
  )


def _shapes(
  index: int, stream: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns boxes [n, 4], classes [n] and colours [n, 3] of an image."""
  rng = np.random.default_rng([index, 20, *stream])
  count = int(rng.integers(1, _MOST + 1))
  sides = rng.uniform(0.2, 0.5, (count, 2))
  kinds = rng.integers(0, len(_CLASSES), count)
  sides[kinds == 1] = sides[kinds == 1].mean(axis=1, keepdims=True)
  corners = rng.uniform(0, 1 - sides)
  boxes = np.concatenate([corners, corners + sides], axis=1)
  return boxes, kinds, rng.uniform(0, 1, (count, 3))


def _mask(box: np.ndarray, kind: int, size: int) -> np.ndarray:
  """Returns which pixels a shape covers, [size, size] bool."""
  y, x = (np.mgrid[:size, :size] + 0.5) / size
  left, top, right, bottom = box
  if kind == 0:
    return (x >= left) & (x < right) & (y >= top) & (y < bottom)
  radius = (right - left) / 2
  centre = (left + right) / 2, (top + bottom) / 2
  return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2
