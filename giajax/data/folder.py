"""A folder of image files.

With subfolders, each subfolder is a class and its name the class name. A flat
folder gives every image its own class: the label is the image's place in the
sorted order. Files are sorted by name, so that indices mean the same on every
machine; hidden files and files that are no images are passed over.
"""

import os
import pathlib

import numpy as np

from giajax.data import base
from giajax.data import decode

_SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')


def load(
  *, path: str | os.PathLike, size: int, channels: int = 3
) -> base.Dataset:
  """Returns the images under `path`; they are opened when they are taken.

  Args:
    path: the folder; `~` is expanded.
    size: side in pixels to which the largest centred square is resized.
    channels: 3 for RGB, 1 for luma.

  Raises:
    ValueError: the folder or a class of it is missing or holds no images, it
      holds images beside its classes, or `size` or `channels` is out of range.
      `take` raises it for a damaged image.
  """
  decode.check_format(size, channels)
  root = pathlib.Path(path).expanduser()
  if not root.is_dir():
    raise ValueError(
      f'Expected an existing folder of images; got path={str(path)!r}; '
      'correct the path'
    )
  files, labels, class_names = _listing(root)

  def read(index: int) -> np.ndarray:
    image = decode.open_image(files[index], str(files[index]))
    return decode.to_pixels(image, size=size, channels=channels)

  return base.dataset(
    name=root.resolve().name,
    image_shape=(size, size, channels),
    class_names=class_names,
    labels=labels,
    note=f'{len(files)} images of folder {root}; licence: as their owner says',
    read=read,
    files=files,
  )


def _listing(
  root: pathlib.Path,
) -> tuple[list[pathlib.Path], list[int], tuple[str, ...]]:
  """Returns files [size], labels [size] and class names [K]."""
  flat = _images(root)
  folders = sorted(
    (p for p in root.iterdir() if p.is_dir() and p.name[0] != '.'),
    key=lambda p: p.name,
  )
  if flat and folders:
    raise ValueError(
      'Expected images in the folder or in one subfolder a class, not both; '
      f'got path={str(root)!r} with {len(flat)} images and {len(folders)} '
      'subfolders; move one of them'
    )
  if flat:
    return flat, list(range(len(flat))), tuple(p.stem for p in flat)
  files, labels = [], []
  for label, directory in enumerate(folders):
    found = _images(directory)
    if not found:
      raise ValueError(
        f'Expected images in every class; got none in {str(directory)!r}; '
        'add some or remove the subfolder'
      )
    files += found
    labels += [label] * len(found)
  if not files:
    raise ValueError(
      f'Expected images ({", ".join(_SUFFIXES)}); got none under '
      f'path={str(root)!r}; add some or correct the path'
    )
  return files, labels, tuple(p.name for p in folders)


def _images(directory: pathlib.Path) -> list[pathlib.Path]:
  return sorted(
    (
      p
      for p in directory.iterdir()
      if p.is_file() and p.suffix.lower() in _SUFFIXES and p.name[0] != '.'
    ),
    key=lambda p: p.name,
  )
