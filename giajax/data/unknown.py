"""No images: the client's data are not known, only what they are like."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from giajax import types
from giajax.data import base
from giajax.data import scale as scales
from giajax.models import base as models


def load(
  *,
  image_shape: Sequence[int] = (32, 32, 3),
  num_classes: int = 10,
  class_names: tuple[str, ...] = (),
  low: float | Sequence[float] = 0.0,
  high: float | Sequence[float] = 1.0,
  columns: Sequence[str] = (),
) -> base.Dataset:
  """No images, for a captured update whose client's data nobody has.

  Args:
    image_shape: (H, W, C) of the client's images, or (F,) of rows of a table.
    num_classes: the number of outputs of the network: classes, or numbers.
    class_names: one name per class; their numbers if empty.
    low: the lowest value of each channel in the client's unit, or one for all.
    high: the highest value of each channel, or one for all.
    columns: one name per channel, for the report.

  Raises:
    ValueError: a size below 1, another number of names than classes or
      channels, or a range without width.
  """
  shape = scales.shape_of(image_shape)
  models.make_spec('unknown', shape, num_classes, 'none')
  names = base.class_names(class_names, num_classes)

  def take(indices: npt.ArrayLike) -> types.Batch:
    raise ValueError(
      'Expected a data set with images; got dataset=unknown and indices '
      f'{np.ravel(indices)[:4].tolist()}; name another dataset'
    )

  return base.Dataset(
    name='unknown',
    image_shape=shape,
    num_classes=num_classes,
    class_names=names,
    labels=np.zeros(0, np.int32),
    note='The client’s data are not known.',
    take=take,
    scale=scales.make(low, high, columns, shape[-1]),
  )
