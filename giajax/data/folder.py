"""A folder of image files.

With subfolders, each subfolder is a class and its name the class name. A flat
folder gives every image its own class: the label is the image's place in the
sorted order. Files are sorted by name, so that indices mean the same on every
machine.

An image is a file of `decode.FORMATS`, recognised by the ending of its name or,
for another ending, by its first bytes. Files that are not images are left out
and named in the data set's note; hidden files are left out.
"""

from collections.abc import Callable
import os
import pathlib
from typing import NamedTuple

import numpy as np

from giajax import archives
from giajax import paths
from giajax import registry
from giajax.data import base
from giajax.data import decode

_KEEP = 'keep'


class _Listing(NamedTuple):
  """What a folder holds."""

  files: list[pathlib.Path]  # [size] images
  labels: list[int]  # [size]
  class_names: tuple[str, ...]  # [K]
  skipped: list[str]  # names of files that are not images


def load(
  *,
  path: str | os.PathLike,
  size: int | None = None,
  channels: int = 3,
  fit: str = 'crop',
) -> base.Dataset:
  """The images in a folder or its subfolders, opened when they are taken.

  Args:
    path: the folder; `~` is expanded.
    size: side of the images in pixels; None for 'keep' only.
    channels: 3 for RGB, 1 for luma.
    fit: how an image that is not square becomes square: 'crop' takes the
      largest centred square, 'pad' puts the whole image in the middle of a
      black square, 'stretch' changes its proportions; each is then resized.
      'keep' changes no image: all have one shape, which need not be square.

  Raises:
    ValueError: the folder or a class of it is missing or holds no images, it
      holds images next to its classes, an argument is out of range, or images
      to keep differ in shape. `take` raises it for a damaged image.
  """
  decode.check_format(size, channels)
  registry.lookup({**decode.FITS, _KEEP: None}, fit, 'fit')
  if (size is None) != (fit == _KEEP):
    raise ValueError(
      "Expected a size for every fit but 'keep', and none for that; got "
      f'size={size}, fit={fit!r}; change one of them'
    )
  root = paths.expanded(path, 'dataset.path')
  if not root.is_dir():
    raise ValueError(
      f'Expected an existing folder of images; got path={str(path)!r}; '
      'correct the path'
    )
  listing = _listing(root)
  files = listing.files
  height, width = (size, size) if size else _shared_shape(files)

  return base.dataset(
    name=root.resolve().name,
    image_shape=(height, width, channels),
    class_names=listing.class_names,
    labels=listing.labels,
    note=_note(root, listing),
    read=_reader(files, size, channels, fit),
    files=[root.resolve() / file.relative_to(root) for file in files],
  )


def _reader(
  files: list[pathlib.Path], size: int | None, channels: int, fit: str
) -> Callable[[int], np.ndarray]:
  def read(index: int) -> np.ndarray:
    image = decode.open_image(files[index], str(files[index]))
    return decode.to_pixels(
      image, size=size, channels=channels, fit='crop' if size is None else fit
    )

  return read


def _shared_shape(files: list[pathlib.Path]) -> tuple[int, int]:
  """Returns the (H, W) of images that are taken as they are."""
  shapes = [decode.upright_shape(file) for file in files]
  other = next((i for i, s in enumerate(shapes) if s != shapes[0]), None)
  if other is not None:
    (h, w), (h2, w2) = shapes[0], shapes[other]
    raise ValueError(
      f"Expected images of one shape for fit='keep'; got {h}x{w} in "
      f'{files[0].name} and {h2}x{w2} in {files[other].name}; resize them, or '
      'use another fit and a size'
    )
  return shapes[0]


def _note(root: pathlib.Path, listing: _Listing) -> str:
  note = (
    f'{len(listing.files)} images of folder {root}; licence: as their owner '
    'says'
  )
  if listing.skipped:
    note += f'; skipped files: {archives.listed(listing.skipped)}'
  return note


def _listing(root: pathlib.Path) -> _Listing:
  """Returns the images of a folder, and the other files in it."""
  flat, skipped = _images(root)
  folders = sorted(
    (p for p in root.iterdir() if p.is_dir() and p.name[0] != '.'),
    key=lambda p: p.name,
  )
  if flat and folders:
    raise ValueError(
      'Expected images in the folder or in one subfolder per class, not both; '
      f'got path={str(root)!r} with {len(flat)} images and {len(folders)} '
      'subfolders; move one of them'
    )
  if flat:
    names = tuple(p.stem for p in flat)
    return _Listing(flat, list(range(len(flat))), names, skipped)
  files, labels = [], []
  for label, directory in enumerate(folders):
    images, others = _images(directory)
    if not images:
      raise ValueError(
        f'Expected images in every class; got none in {str(directory)!r}; '
        'add some or remove the subfolder'
      )
    files += images
    labels += [label] * len(images)
    skipped += [f'{directory.name}/{name}' for name in others]
  if not files:
    raise ValueError(
      f'Expected images ({", ".join(decode.FORMATS)}); got none under '
      f'path={str(root)!r}; add some or correct the path'
    )
  return _Listing(files, labels, tuple(p.name for p in folders), skipped)


def _images(directory: pathlib.Path) -> tuple[list[pathlib.Path], list[str]]:
  """Returns the image files of a folder, and the names of its other files."""
  suffixes, images, others = decode.suffixes(), [], []
  for path in sorted(directory.iterdir(), key=lambda p: p.name):
    if path.is_dir() or path.name[0] == '.':
      continue
    named = path.is_file() and path.suffix.lower() in suffixes
    if named or decode.is_image(path):
      images.append(path)
    else:
      others.append(path.name)
  return images, others
