"""Linear maps along single axes: averages and interpolation.

A matrix for each axis, which is small next to a network's layers, has a
derivative of any order that is another matrix product.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from giajax.models.aten.parts import values


def resampled(x: values.Value, matrices: Sequence[np.ndarray]) -> values.Value:
  """Returns a value with matrices [out, in] applied along its last axes."""
  array, rank = x.array, len(matrices)
  for i, matrix in enumerate(matrices):
    array = _along(array, x.order[i - rank], matrix)
  return x.with_array(array)


def _along(array, axis, matrix):
  count, n = matrix.shape
  if count == n and (matrix == np.eye(n)).all():
    return array
  if count == 1 and (matrix == matrix[0, 0]).all():
    return array.sum(axis, keepdims=True) * float(matrix[0, 0])
  size, rest = divmod(n, count)
  tiles = np.kron(np.eye(count), np.full((1, size), matrix[0, 0]))
  if not rest and (matrix == tiles).all():
    shape = array.shape
    cut = array.reshape(*shape[:axis], count, size, *shape[axis + 1 :])
    return cut.sum(axis + 1) * float(matrix[0, 0])
  own = jnp.asarray(matrix, array.dtype)
  return jnp.moveaxis(jnp.tensordot(own, array, (1, axis)), 0, axis)
