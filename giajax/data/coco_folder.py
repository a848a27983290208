"""A folder of images with boxes in text files, as detectors are trained on.

The folder holds `images` and `labels`: of image NAME.jpg, labels/NAME.txt has a
line for each object, the class and the centre, width and height of its box
relative to the image. An image without such a file, or with an empty one, has
no objects. A .yaml file beside the folders may name the classes under `names`.
"""

import os
import pathlib
from typing import Any

import numpy as np
import yaml

from giajax import paths
from giajax.data import base
from giajax.data import decode
from giajax.data import letterbox
from giajax.data import with_boxes
from giajax.tasks.parts import objects as records

_COCO, _COCO_IDS = 80, 90  # classes, and the highest id of COCO's own


def load(
  *,
  path: str | os.PathLike,
  size: int = 256,
  max_objects: int = 32,
  num_classes: int = 0,
  fill: int = letterbox.GREY,
) -> base.Dataset:
  """Images and boxes in a folder, letterboxed when they are taken.

  Args:
    path: the folder; `~` is expanded.
    size: the side of the squares, which 32 divides.
    max_objects: the number of slots for objects; an image of more is an error.
    num_classes: the number of classes; that of the names if 0.
    fill: the grey level of the bars of a letterbox, 0 to 255.

  Raises:
    ValueError: a folder without images, an odd line of a text file, a class
      that has no name, or a number out of range.
  """
  with_boxes.check_size(size, max_objects, fill)
  root = paths.expanded(path, 'dataset.path')
  files = _files(root)
  names = base.class_names(*_names(root, num_classes))
  places = [letterbox.place(*decode.upright_shape(f), size) for f in files]
  sources = [root / 'labels' / f'{file.stem}.txt' for file in files]
  found = [
    records.padded(*_objects(source, place, len(names)), max_objects, str(file))
    for file, source, place in zip(files, sources, places)
  ]

  def read(index: int) -> np.ndarray:
    image = decode.open_image(files[index], str(files[index]))
    return letterbox.pixels(image, places[index], fill)

  texts = [source for source in sources if source.is_file()]
  return with_boxes.dataset(
    name=root.resolve().name,
    size=size,
    class_names=names,
    objects=found,
    note=f'images and boxes in {root.resolve().name}; licence: see there',
    read=read,
    places=places,
    files=[*files, *texts],
  )


def _files(root: pathlib.Path) -> list[pathlib.Path]:
  folder = root / 'images'
  files = []
  if folder.is_dir():
    endings = decode.suffixes()
    files = [f for f in folder.iterdir() if f.suffix.lower() in endings]
  if not files:
    raise ValueError(
      f'Expected a folder that has images in images/; got path={str(root)!r} '
      'without any; correct the path'
    )
  return sorted(files)


def _names(root: pathlib.Path, num_classes: int) -> tuple[list[str], int]:
  """Returns the names of the classes, none for numbers, and how many."""
  named: Any = None
  for file in sorted(root.glob('*.yaml')):
    try:
      content = yaml.safe_load(file.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
      raise ValueError(
        f'Expected a .yaml file that can be read; got {str(file)!r} '
        f'({type(error).__name__}); correct or remove it'
      ) from error
    named = content.get('names') if isinstance(content, dict) else None
  if isinstance(named, dict):
    named = [named[key] for key in sorted(named)]
  names = [str(name) for name in named] if isinstance(named, list) else []
  if not names and not num_classes:
    raise ValueError(
      'Expected num_classes, as no .yaml file beside the images has names; got '
      'num_classes=0; set dataset.num_classes'
    )
  if num_classes and len(names) > num_classes:
    names = []
  return names, num_classes or len(names)


def _objects(
  source: pathlib.Path, place: letterbox.Place, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns boxes [n, 4] of the square, and classes [n]."""
  rows = []
  text = source.read_text(encoding='utf-8') if source.is_file() else ''
  for number, line in enumerate(text.splitlines(), 1):
    if line.strip():
      rows.append(_row(line, f'{source}:{number}', num_classes))
  rows = np.array(rows, np.float64).reshape(-1, 5)
  centre, half = rows[:, 1:3], rows[:, 3:] / 2
  corners = np.concatenate([centre - half, centre + half], axis=1)
  return letterbox.moved(corners.clip(0, 1), place), rows[:, 0].astype(int)


def _row(line: str, where: str, num_classes: int) -> list[float]:
  """Returns the five numbers of an object."""
  try:
    numbers = [float(word) for word in line.split()]
  except ValueError:
    numbers = []
  good = len(numbers) == 5 and np.isfinite(numbers).all()
  if not good or not all(0 <= v <= 1 for v in numbers[1:]):
    raise ValueError(
      'Expected a class and a box in [0, 1] (centre, width, height); got '
      f'{line.strip()[:60]!r} in {where}; correct the line'
    )
  if not numbers[0].is_integer() or not 0 <= numbers[0] < num_classes:
    advice = 'set dataset.num_classes to the label set of these files'
    if num_classes == _COCO and _COCO <= numbers[0] <= _COCO_IDS:
      advice = (
        'map COCO’s own ids, 1 to 90 with gaps, to 0 to 79, if that is what '
        'these files hold'
      )
    raise ValueError(
      f'Expected a class in [0, {num_classes}); got {numbers[0]:g} in {where}; '
      f'{advice}'
    )
  return numbers
