"""Any prepared object detection set of TensorFlow Datasets, such as COCO.

As `tfds_source`, it is read through `tfds.data_source`, without TensorFlow. The
records hold boxes as (top, left, bottom, right) in [0, 1]. Objects that stand
for a crowd are left out, and so are boxes without width or height.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from giajax import printable
from giajax.data import base
from giajax.data import decode
from giajax.data import letterbox
from giajax.data import tfds_source
from giajax.data import with_boxes
from giajax.tasks.parts import objects as records

_CORNERS = (1, 0, 3, 2)  # of a box of tfds, in our order


def load(
  *,
  dataset: str,
  split: str,
  data_dir: str | None = None,
  size: int = 256,
  max_objects: int = 96,
  fill: int = letterbox.GREY,
  image_key: str = 'image',
  objects_key: str = 'objects',
) -> base.Dataset:
  """A split of a detection set that TensorFlow Datasets has prepared.

  Every record is read once, so that the objects are known: use a slice of a
  large set, such as 'validation[:500]'.

  Args:
    dataset: name in tfds, e.g. 'coco/2017'.
    split: e.g. 'validation[:500]'.
    data_dir: folder of prepared sets; tfds's own default when empty.
    size: the side of the squares, which 32 divides.
    max_objects: the number of slots for objects; an image of more is an error.
    fill: the grey level of the bars of a letterbox, 0 to 255.
    image_key: feature that holds the image.
    objects_key: feature that holds `bbox` and `label` of each object.

  Raises:
    ValueError: tfds does not know the set or the split, it is not prepared
      under `data_dir`, it has no such features, a record is damaged, or a
      number is out of range.
  """
  with_boxes.check_size(size, max_objects, fill)
  source = tfds_source.opened(dataset, split, data_dir, image_key)
  names = _names(source.dataset_info.features, objects_key)
  name = printable.line(source.dataset_info.full_name)

  def record(index: int) -> Mapping[str, Any]:
    try:
      return source[index]
    except tfds_source.UNSERVED as error:
      where = f'record {index} of {name} {split}'
      raise tfds_source.unserved(where, error) from error

  def image(one: Mapping[str, Any], index: int) -> Any:
    return decode.open_image(one[image_key], f'record {index} of {name}')

  places, found = [], []
  for index in range(len(source)):
    one = record(index)
    width, height = image(one, index).size
    places.append(letterbox.place(height, width, size))
    own = _objects(one[objects_key], places[-1])
    found.append(records.padded(*own, max_objects, f'record {index} of {name}'))

  def read(index: int) -> np.ndarray:
    whole = image(record(index), index)
    return letterbox.pixels(whole, places[index], fill)

  return with_boxes.dataset(
    name=name,
    size=size,
    class_names=names,
    objects=found,
    note=f'tfds {name}, split {split}; licence: see the tfds catalogue',
    read=read,
    places=places,
    files=source.dataset_info.splits[split].filepaths,
  )


def _names(features: Any, objects_key: str) -> tuple[str, ...]:
  """Returns the names of the classes of objects."""
  own = dict(features.items()).get(objects_key, {})
  own = getattr(own, 'feature', own)  # of a sequence
  if not {'bbox', 'label'} <= {*own}:
    raise ValueError(
      f'Expected a feature {objects_key!r} with bbox and label; got the '
      f'features {", ".join(features)}; choose a detection set, or set '
      'objects_key'
    )
  return tuple(own['label'].names)


def _objects(
  own: Mapping[str, Any], place: letterbox.Place
) -> tuple[np.ndarray, np.ndarray]:
  """Returns boxes [n, 4] of the square, and classes [n]."""
  boxes = np.asarray(own['bbox'], np.float64).reshape(-1, 4)[:, _CORNERS]
  classes = np.asarray(own['label'], int).reshape(-1)
  crowd = np.asarray(own.get('is_crowd', np.zeros(len(classes))), bool)
  boxes = letterbox.moved(boxes.clip(0, 1), place)
  flat = (boxes[:, 2:] <= boxes[:, :2]).any(-1)
  keep = ~crowd.reshape(-1) & ~flat
  return boxes[keep], classes[keep]
