"""Rules on image sizes and widths that architectures share."""


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


def scaled(channels: int, width: float) -> int:
  """Returns `channels * width`, rounded.

  Raises:
    ValueError: fewer than one channel is left.
  """
  out = round(channels * width)
  if out < 1:
    raise ValueError(
      f'Expected a width factor that leaves a channel of {channels}; got '
      f'width={width}; use 1 for the published width'
    )
  return out
