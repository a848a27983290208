"""No images: the client's data are not known, only what they are like."""

import numpy as np
import numpy.typing as npt

from giajax import types
from giajax.data import base
from giajax.models import base as models


def load(
  *,
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  class_names: tuple[str, ...] = (),
) -> base.Dataset:
  """No images, for a captured update whose client's data nobody has.

  Args:
    image_shape: (H, W, C) of the client's images.
    num_classes: the number of classes.
    class_names: one name per class; their numbers if empty.

  Raises:
    ValueError: a size below 1, or another number of names than classes.
  """
  models.make_spec('unknown', tuple(image_shape), num_classes, 'none')
  names = tuple(class_names) or tuple(map(str, range(num_classes)))
  if len(names) != num_classes:
    raise ValueError(
      f'Expected a name for each of {num_classes} classes; got '
      f'{len(names)} in class_names; add or remove some'
    )

  def take(indices: npt.ArrayLike) -> types.Batch:
    raise ValueError(
      'Expected a data set with images; got dataset=unknown and indices '
      f'{np.ravel(indices)[:4].tolist()}; name another dataset'
    )

  return base.Dataset(
    name='unknown',
    image_shape=tuple(image_shape),
    num_classes=num_classes,
    class_names=names,
    labels=np.zeros(0, np.int32),
    note='The client’s data are not known.',
    take=take,
  )
