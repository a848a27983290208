"""From an encoded image to pixels in [0, 1], with Pillow alone."""

import io
import os

import numpy as np
from PIL import Image
from PIL import ImageOps

_MODES = {1: 'L', 3: 'RGB'}
_EIGHT_BIT = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'CMYK', 'YCbCr')
# What Pillow raises for damaged files, by its decoders and plug-ins.
_DAMAGED = (
  OSError,  # truncated, unreadable, and UnidentifiedImageError
  SyntaxError,  # broken PNG chunks
  EOFError,
  ValueError,
  Image.DecompressionBombError,
)


def check_format(size: int | None, channels: int | None) -> None:
  """Checks a requested image format; None leaves a property as it is.

  Raises:
    ValueError: `size` is no positive integer, or `channels` neither 1 nor 3.
  """
  if size is not None and (not isinstance(size, int) or size < 1):
    raise ValueError(
      f'Expected a positive integer side in pixels; got size={size!r}; '
      'pass e.g. size=32'
    )
  if channels is not None and channels not in _MODES:
    raise ValueError(
      f'Expected 1 (grey) or 3 (RGB) channels; got channels={channels!r}; '
      'pass one of them'
    )


def open_image(
  source: str | os.PathLike | bytes,
  name: str,
) -> Image.Image:
  """Returns a decoded image, turned upright as its EXIF entry says.

  Args:
    source: path of an image file, or its bytes.
    name: what the error calls it.

  Raises:
    ValueError: it is damaged, truncated, no image, or deeper than 8 bits.
  """
  stream = io.BytesIO(source) if isinstance(source, bytes) else source
  try:
    with Image.open(stream) as opened:
      image = ImageOps.exif_transpose(opened)
      image.load()
  except _DAMAGED as error:
    raise ValueError(
      f'Expected a readable image; got {name} '
      f'({type(error).__name__}: {_first_line(error)}); remove or replace it'
    ) from error
  if image.mode not in _EIGHT_BIT:
    raise ValueError(
      f'Expected an image of 8 bits a channel; got {name} with '
      f'mode={image.mode!r}; convert it to 8 bits'
    )
  return image


def to_pixels(
  image: Image.Image,
  *,
  size: int | None,
  channels: int,
  box: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
  """Returns [H, W, C] float32 in [0, 1].

  Args:
    image: 8-bit image. Transparency is dropped.
    size: side of the result: a square crop is resized to it with an
      antialiased Lanczos filter. None keeps image or box as they are.
    channels: 1 for luma, 3 for RGB; grey images are repeated.
    box: (left, top, right, bottom) of the crop in pixels. The largest centred
      square by default when there is a `size`.
  """
  if box is None and size is not None:
    box = _centred_square(*image.size)
  if box is not None:
    image = image.crop(box)
  image = image.convert(_MODES[channels])
  if size is not None and image.size != (size, size):
    image = image.resize((size, size), Image.Resampling.LANCZOS)
  values = np.asarray(image, np.float32) / np.float32(255)
  return values.reshape(*values.shape[:2], channels)


def _centred_square(width: int, height: int) -> tuple[int, int, int, int]:
  side = min(width, height)
  left, top = (width - side) // 2, (height - side) // 2
  return left, top, left + side, top + side


def _first_line(error: BaseException) -> str:
  return (str(error).strip() or 'no message').splitlines()[0]
