"""Rules on image sizes, depths and widths that architectures share."""

from collections.abc import Sequence

# Each block is a module of its own, and takes part of a second to make.
_MOST_BLOCKS = 1000


def is_small(image_shape: tuple[int, int, int]) -> bool:
  """Returns whether networks take their CIFAR form by default.

  Args:
    image_shape: (H, W, C); up to 64 pixels on a side are small.
  """
  return min(image_shape[:2]) <= 64


def image_form(
  image_shape: tuple[int, int, int], form: str | None, option: str = 'stem'
) -> str:
  """Returns 'cifar' or 'imagenet', by image size if no form was chosen.

  Args:
    image_shape: (H, W, C); small ones are 'cifar'.
    form: the form that the user chose, or None.
    option: the name of the option.

  Raises:
    ValueError: another form.
  """
  form = form or ('cifar' if is_small(image_shape) else 'imagenet')
  if form not in ('cifar', 'imagenet'):
    raise ValueError(
      f"Expected {option} 'cifar' or 'imagenet'; got {option}={form!r}; use "
      'one of them'
    )
  return form


def require_size(image_shape: tuple[int, int, int], least: int) -> None:
  """Raises a ValueError for images below `least` pixels on a side."""
  if min(image_shape[:2]) < least:
    raise ValueError(
      f'Expected images of at least {least}x{least} pixels; got '
      f'image_shape={image_shape}; use larger images or the CIFAR form'
    )


def require_multiple(image_shape: tuple[int, int, int], factor: int) -> None:
  """Raises a ValueError for images whose sides are no multiples of a factor."""
  if any(side % factor for side in image_shape[:2]):
    raise ValueError(
      f'Expected image sides that are multiples of {factor}; got '
      f'image_shape={image_shape}; pad the images or resize them'
    )


def require_blocks(counts: Sequence[int], name: str) -> None:
  """Raises a ValueError for more blocks than can be made.

  Args:
    counts: the number of blocks of each stage.
    name: the name of the argument that says so.
  """
  if sum(counts) > _MOST_BLOCKS:
    raise ValueError(
      f'Expected at most {_MOST_BLOCKS} blocks in all; got '
      f'{name}={tuple(counts)}; lower them'
    )


def scaled(channels: int, width: float) -> int:
  """Returns `channels * width`, rounded.

  Raises:
    ValueError: fewer than one channel is left, or more than can be numbered.
  """
  out = channels * width
  if not 0.5 < out < 2**31:
    raise ValueError(
      f'Expected a width factor that makes {channels} channels 1 to 2^31; got '
      f'width={width}; use 1 for the published width'
    )
  return round(out)
