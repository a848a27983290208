"""Sixteen photographs that need no download: details of files in scikit-image.

The files are inside scikit-image's wheel (0.24 to 0.26 at least). Only those
that scikit-image documents as CC0 or as released into the public domain are
used; `coins` and `ihc` ("no known copyright restrictions"), `moon` (nothing
stated) and the faces of LFW are left out.

  file                   photographer           licence
  astronaut.png          NASA                   public domain
  brick.png              CC0Textures, Bricks25  CC0
  camera.png             Lav Varshney           CC0
  chelsea.png            Stefan van der Walt    CC0
  coffee.png             Rachel Michetti        CC0
  hubble_deep_field.jpg  NASA                   public domain
  retina.jpg             Mikael Haggstrom       CC0
  rocket.jpg             SpaceX                 public domain

Eight photographs are too few for a batch of sixteen, so some give several
crops, chosen by eye: each shows one thing, and none is inside another except
`eye`, `spoon` and `optic_disc`, which are details of `cat`, `coffee` and
`retina`. Every crop is its own class. `cameraman`, `skyline` and `bricks` are
grey: their three channels are equal.
"""

import importlib.resources
from typing import NamedTuple

import numpy as np

from giajax.data import base
from giajax.data import decode


class _Crop(NamedTuple):
  name: str
  file: str
  left: int
  top: int
  side: int


# The order is the labels' order, and part of every recorded result.
_CROPS = (
  _Crop('astronaut', 'astronaut.png', 144, 8, 168),
  _Crop('cat', 'chelsea.png', 100, 0, 300),
  _Crop('coffee', 'coffee.png', 80, 0, 400),
  _Crop('rocket', 'rocket.jpg', 170, 110, 300),
  _Crop('cameraman', 'camera.png', 60, 20, 300),
  _Crop('retina', 'retina.jpg', 0, 0, 1411),
  _Crop('galaxies', 'hubble_deep_field.jpg', 580, 330, 280),
  _Crop('helmet', 'astronaut.png', 285, 320, 192),
  _Crop('shuttle', 'astronaut.png', 312, 0, 200),
  _Crop('eye', 'chelsea.png', 115, 45, 128),
  _Crop('spoon', 'coffee.png', 290, 210, 150),
  _Crop('optic_disc', 'retina.jpg', 60, 480, 360),
  _Crop('skyline', 'camera.png', 330, 60, 160),
  _Crop('patch', 'astronaut.png', 100, 310, 150),
  _Crop('flag', 'astronaut.png', 0, 48, 128),
  _Crop('bricks', 'brick.png', 180, 180, 144),
)


def load(*, size: int = 32, channels: int = 3) -> base.Dataset:
  """Sixteen photographs that ship with scikit-image, one class each.

  Args:
    size: side in pixels. Above 128 the smallest crops are enlarged.
    channels: 3 for RGB, 1 for luma.

  Raises:
    ValueError: `size` or `channels` is out of range, or the installed
      scikit-image does not hold the files.
  """
  decode.check_format(size, channels)
  directory = importlib.resources.files('skimage') / 'data'
  missing = sorted(
    {crop.file for crop in _CROPS if not (directory / crop.file).is_file()}
  )
  if missing:
    raise ValueError(
      "Expected scikit-image's wheel to hold the photographs; got "
      f'missing={missing}; install scikit-image>=0.24'
    )

  def read(index: int) -> np.ndarray:
    crop = _CROPS[index]
    image = decode.open_image((directory / crop.file).read_bytes(), crop.file)
    right, bottom = crop.left + crop.side, crop.top + crop.side
    return decode.to_pixels(
      image,
      size=size,
      channels=channels,
      box=(crop.left, crop.top, right, bottom),
    )

  return base.dataset(
    name='photographs',
    image_shape=(size, size, channels),
    class_names=tuple(crop.name for crop in _CROPS),
    labels=np.arange(len(_CROPS)),
    note="public domain or CC0 photographs from scikit-image's wheel",
    read=read,
  )
