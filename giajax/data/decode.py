"""From an encoded image to pixels in [0, 1], using only Pillow."""

from collections.abc import Iterator
import contextlib
import io
import os
import stat
import struct
import warnings

import numpy as np
from PIL import Image
from PIL import ImageOps

# What a file may hold, by Pillow's names.
FORMATS = ('BMP', 'GIF', 'JPEG', 'PNG', 'TIFF', 'WEBP')
_MODES = {1: 'L', 3: 'RGB'}
_ORIENTATION = 0x0112  # the EXIF entry; from 5 on, width and height change
_EIGHT_BIT = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'CMYK', 'YCbCr')
# What Pillow raises for damaged files, by its decoders and plug-ins.
_DAMAGED = (
  OSError,  # truncated, unreadable, and UnidentifiedImageError
  SyntaxError,  # broken PNG chunks
  EOFError,
  TypeError,  # entries of a TIFF or of EXIF
  ValueError,
  struct.error,
  Image.DecompressionBombError,
  Image.DecompressionBombWarning,
)


def check_format(size: int | None, channels: int | None) -> None:
  """Checks a requested image format; None leaves a property as it is.

  Raises:
    ValueError: `size` is not a positive integer, or `channels` is neither 1 nor
      3.
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
  """Returns a decoded image, turned upright according to its EXIF entry.

  Args:
    source: path of an image file, or its bytes.
    name: the name of the image in errors.

  Raises:
    ValueError: the source is damaged, truncated, no image of `FORMATS`, larger
      than Pillow's `Image.MAX_IMAGE_PIXELS`, or deeper than 8 bits per channel.
  """
  try:
    with _opened(source) as opened:
      with _silent() if opened.format == 'TIFF' else contextlib.nullcontext():
        opened.load()
      image = ImageOps.exif_transpose(opened)
  except _DAMAGED as error:
    raise _unreadable(name, error) from error
  if image.mode not in _EIGHT_BIT:
    raise ValueError(
      f'Expected an image of 8 bits per channel; got {name} with '
      f'mode={image.mode!r}; convert it to 8 bits'
    )
  return image


def suffixes() -> frozenset[str]:
  """Returns the endings of the names of such files, lower case, dot included.

  They are Pillow's: '.jfif' and '.jpe' as well as '.jpg', '.apng' and '.png'.
  """
  endings = Image.registered_extensions()
  return frozenset(k for k, kind in endings.items() if kind in FORMATS)


def is_image(path: str | os.PathLike) -> bool:
  """Says whether a file begins like an image of `FORMATS`."""
  try:
    with _opened(path):
      return True
  except _DAMAGED:
    return False


def upright_shape(path: str | os.PathLike) -> tuple[int, int]:
  """Returns the (H, W) of an image as `open_image` turns it, undecoded.

  Raises:
    ValueError: the header is damaged, or the file is not an image.
  """
  try:
    with _opened(path) as opened:
      width, height = opened.size
      turned = opened.getexif().get(_ORIENTATION, 1) >= 5
  except _DAMAGED as error:
    raise _unreadable(str(path), error) from error
  return (width, height) if turned else (height, width)


def to_pixels(
  image: Image.Image,
  *,
  size: int | None,
  channels: int,
  box: tuple[int, int, int, int] | None = None,
  fit: str = 'crop',
) -> np.ndarray:
  """Returns [H, W, C] float32 in [0, 1].

  Args:
    image: an 8-bit image. Transparency is dropped.
    size: the side of the result, made with an antialiased Lanczos filter. None
      keeps the image or the box as it is.
    channels: 1 for luma, 3 for RGB; grey images are repeated.
    box: (left, top, right, bottom) of the part that is taken first, in pixels.
    fit: a name in `FITS`: how an image that is not square becomes so.
  """
  if box is not None:
    image = image.crop(box)
  if size is not None:
    image = FITS[fit](image, size, _MODES[channels])
  image = image.convert(_MODES[channels])
  values = np.asarray(image, np.float32) / np.float32(255)
  return values.reshape(*values.shape[:2], channels)


def _crop(image: Image.Image, size: int, mode: str) -> Image.Image:
  """The largest centred square, resized."""
  width, height = image.size
  side = min(width, height)
  left, top = (width - side) // 2, (height - side) // 2
  square = image.crop((left, top, left + side, top + side))
  return _resized(square.convert(mode), size, size)


def _pad(image: Image.Image, size: int, mode: str) -> Image.Image:
  """The whole image, resized, in the middle of a black square."""
  width, height = image.size
  longest = max(width, height)
  w, h = (max(1, round(size * n / longest)) for n in (width, height))
  square = Image.new(mode, (size, size))
  whole = _resized(image.convert(mode), w, h)
  square.paste(whole, ((size - w) // 2, (size - h) // 2))
  return square


def _stretch(image: Image.Image, size: int, mode: str) -> Image.Image:
  """The whole image, resized by a factor of its own in each direction."""
  return _resized(image.convert(mode), size, size)


def _resized(image: Image.Image, width: int, height: int) -> Image.Image:
  if image.size == (width, height):
    return image
  return image.resize((width, height), Image.Resampling.LANCZOS)


# By name: `(image, size, mode) -> image` of size x size pixels.
FITS = {'crop': _crop, 'pad': _pad, 'stretch': _stretch}


@contextlib.contextmanager
def _opened(source: str | os.PathLike | bytes) -> Iterator[Image.Image]:
  """Opens an image by its content: no program for another format is started.

  Raises:
    OSError: a pipe or a device, which might never end, or another format.
    DecompressionBombWarning: far more pixels than a photograph has.
  """
  stream = source
  if isinstance(source, bytes):
    stream = io.BytesIO(source)
  elif not stat.S_ISREG(os.stat(source).st_mode):
    raise OSError('not a regular file')
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # what is wrong and matters is raised
    warnings.simplefilter('error', Image.DecompressionBombWarning)
    with Image.open(stream, formats=FORMATS) as image:
      yield image


@contextlib.contextmanager
def _silent() -> Iterator[None]:
  """Keeps libtiff quiet, which writes past Python to standard error."""
  stderr = os.dup(2)
  try:
    with open(os.devnull, 'wb') as nowhere:
      os.dup2(nowhere.fileno(), 2)
    yield
  finally:
    os.dup2(stderr, 2)
    os.close(stderr)


def _unreadable(name: str, error: BaseException) -> ValueError:
  return ValueError(
    f'Expected a readable image; got {name} '
    f'({type(error).__name__}: {_first_line(error)}); remove or replace it'
  )


def _first_line(error: BaseException) -> str:
  return (str(error).strip() or 'no message').splitlines()[0]
