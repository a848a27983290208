"""Any prepared image classification set of TensorFlow Datasets.

Read through `tfds.data_source`, so that TensorFlow is neither needed nor
imported. The set must be prepared as array_record beforehand, e.g. by
`tfds build cifar10 --file_format=array_record`; nothing is downloaded here.
Labels are read without decoding the images (about 0.4 s for 10,000 of CIFAR);
images are decoded when a batch is taken.
"""

import contextlib
import difflib
import io
import json
import pathlib
from typing import Any

import numpy as np

from giajax import paths
from giajax import printable
from giajax.data import base
from giajax.data import decode

_CHUNK = 1024  # records held at once while the labels are read
# What tfds raises for names, versions, splits and files it cannot serve.
UNSERVED = (
  AssertionError,
  AttributeError,
  ImportError,
  LookupError,
  NotImplementedError,
  OSError,
  RuntimeError,
  TypeError,
  ValueError,
)
# Keys of a feature's class, which tfds imports.
_CLASS = ('pythonClassName', 'python_class_name', 'type')
_OWN = 'tensorflow_datasets.'


def load(
  *,
  dataset: str,
  split: str,
  data_dir: str | None = None,
  size: int | None = None,
  channels: int | None = None,
  image_key: str = 'image',
  label_key: str = 'label',
) -> base.Dataset:
  """A split of a data set that TensorFlow Datasets has prepared.

  Args:
    dataset: name in tfds, e.g. 'cifar10' or 'mnist:3.0.1'.
    split: e.g. 'test' or 'train[:1000]'.
    data_dir: folder of prepared sets; tfds's own default when empty.
    size: side to which a centred square crop is resized. None keeps the
      images as they are, which needs a set of one image size.
    channels: 1 for luma, 3 for RGB; None keeps the set's own.
    image_key: feature that holds the image.
    label_key: feature that holds the class.

  Raises:
    ValueError: tfds does not know the set or the split, it is not prepared
      under `data_dir`, its features are not an image and a class, its images
      differ in size and `size` is None, or a record is damaged.
  """
  decode.check_format(size, channels)
  source = opened(dataset, split, data_dir, image_key)
  features = source.dataset_info.features
  height, width, depth = _check_features(features, image_key, label_key)
  channels = channels or depth
  if channels not in (1, 3):
    raise ValueError(
      f'Expected 1 or 3 channels in dataset={dataset!r}; got '
      f'{image_key} of shape {(height, width, depth)}; pass channels=3'
    )
  if size is None and (height is None or width is None):
    raise ValueError(
      f'Expected a size, as the images of dataset={dataset!r} differ in '
      'theirs; got size=None; pass e.g. size=224'
    )
  name = printable.line(source.dataset_info.full_name)

  def read(index: int) -> np.ndarray:
    where = f'record {index} of {name} {split}'
    try:
      record = source[index]
    except UNSERVED as error:
      raise unserved(where, error) from error
    image = decode.open_image(record[image_key], where)
    return decode.to_pixels(image, size=size, channels=channels)

  return base.dataset(
    name=name,
    image_shape=(size or height, size or width, channels),
    class_names=tuple(features[label_key].names),
    labels=_labels(source, label_key, f'{name} {split}'),
    note=f'tfds {name}, split {split}; licence: see the tfds catalogue',
    read=read,
    files=source.dataset_info.splits[split].filepaths,
  )


def opened(
  dataset: str, split: str, data_dir: str | None, image_key: str
) -> Any:
  """Returns the data source, whose images stay encoded.

  Args:
    dataset: its name in tfds.
    split: its split.
    data_dir: the folder of prepared sets.
    image_key: the feature that holds the image.

  Raises:
    ValueError: tfds does not know it, or it is not prepared.
  """
  from google.protobuf import json_format
  import tensorflow_datasets as tfds

  if data_dir:
    directory = paths.expanded(data_dir, 'dataset.data_dir')
    if not directory.is_dir():
      raise ValueError(
        f'Expected an existing folder of tfds data; got data_dir={data_dir!r}; '
        'correct the path or prepare the set there'
      )
    data_dir = str(directory)
  where = f'dataset={dataset!r}, split={split!r}'
  root = pathlib.Path(data_dir or tfds.core.constants.DATA_DIR)
  try:
    name, _ = tfds.core.naming.parse_builder_name_kwargs(dataset)
    if name.namespace:  # tfds would ask another place
      raise ValueError(f'nothing is downloaded from {name.namespace}')
    _check_files(root / name.name)
    with contextlib.redirect_stdout(io.StringIO()):  # advice of tfds
      return tfds.data_source(
        dataset,
        split=split,
        data_dir=data_dir or None,
        download=False,
        decoders={image_key: tfds.decode.SkipDecoding()},
      )
  except tfds.core.DatasetNotFoundError as error:
    builders = tfds.list_builders(with_community_datasets=False)
    near = (
      ' or '.join(difflib.get_close_matches(dataset, builders)) or 'another'
    )
    raise ValueError(
      f'Expected a data set that tfds knows; got dataset={dataset!r}; '
      f'choose {near}'
    ) from error
  except (*UNSERVED, json_format.Error) as error:
    raise unserved(where, error) from error


def _check_files(folder: pathlib.Path) -> None:
  """Refuses descriptions of a data set that tfds should not read.

  Raises:
    ValueError: a pipe or a device, or a class of another package, which would
      be imported.
  """

  def check(node: dict[str, Any]) -> None:
    for name in map(node.get, _CLASS):
      if isinstance(name, str) and not name.startswith(_OWN):
        raise ValueError(f'the class {name} in {path}')

  for path in folder.rglob('*.json'):
    if not path.is_file():
      raise ValueError(f'{path} is no file')
    if path.name == 'features.json':
      json.loads(path.read_bytes(), object_hook=check)


def _check_features(
  features: Any, image_key: str, label_key: str
) -> tuple[Any, Any, Any]:
  """Returns (H, W, C), None where images differ, of an image and class set."""
  import tensorflow_datasets as tfds

  kinds = {
    image_key: tfds.features.Image,
    label_key: tfds.features.ClassLabel,
  }
  for key, kind in kinds.items():
    actual = type(features[key]).__name__ if key in features else 'no such key'
    if key not in features or not isinstance(features[key], kind):
      raise ValueError(
        f'Expected feature {key!r} to be of type {kind.__name__}; got {actual} '
        f'(features: {", ".join(features)}); set image_key and label_key'
      )
  return features[image_key].shape


def _labels(source: Any, label_key: str, name: str) -> np.ndarray:
  """Returns [size] int32, read without decoding an image."""
  labels: list[int] = []
  try:
    for start in range(0, len(source), _CHUNK):
      stop = min(start + _CHUNK, len(source))
      records = source.__getitems__(range(start, stop))
      labels += [record[label_key] for record in records]
  except UNSERVED as error:
    raise unserved(name, error) from error
  return np.asarray(labels, np.int32)


def unserved(name: str, error: BaseException) -> ValueError:
  """Returns the error of a set that tfds cannot serve, in one line."""
  reason = (str(error).strip() or 'no message').splitlines()[0]
  return ValueError(
    f'Expected a split prepared as array_record; got {name} '
    f'({type(error).__name__}: {reason}); check the names and data_dir, or '
    'run tfds build --file_format=array_record'
  )
