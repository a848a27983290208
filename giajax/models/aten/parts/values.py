"""Arrays whose axes are stored in another sequence than torch's.

torch's images are [B, C, H, W], and giajax's convolutions read [B, H, W, C]. A
value keeps its array as it was computed and notes where torch's axes are in it,
so that a permutation moves no memory, and neither do the two changes of layout
around whatever stands between two convolutions.
"""

from collections.abc import Sequence
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from giajax import types


class Value(NamedTuple):
  """An array in torch's eyes.

  Attributes:
    array: as it is stored.
    order: the axis of `array` for each of torch's axes.
    name: the dotted name of the parameter that it is, its axes perhaps
      permuted; '' if it is none.
  """

  array: types.Array
  order: tuple[int, ...]
  name: str = ''

  @property
  def shape(self) -> tuple[int, ...]:
    """Torch's shape."""
    return tuple(self.array.shape[axis] for axis in self.order)

  @property
  def ndim(self) -> int:
    """The number of axes."""
    return len(self.order)

  def laid(self, axes: Sequence[int]) -> types.Array:
    """Returns the array with torch's axes in the sequence `axes`."""
    moves = [self.order[axis] for axis in axes]
    if moves == [*range(self.ndim)]:
      return self.array
    return jnp.transpose(self.array, moves)

  def logical(self) -> types.Array:
    """Returns the array of torch's shape."""
    return self.laid(range(self.ndim))

  def axes(self, dims: Sequence[int] | int | None) -> tuple[int, ...]:
    """Returns the axes of `array` of some of torch's; all for none."""
    if isinstance(dims, int):
      dims = [dims]
    return tuple(self.order[dim] for dim in dims or range(self.ndim))

  def with_array(self, array: types.Array) -> 'Value':
    """Returns another array in the same layout."""
    return Value(array, self.order)

  def permuted(self, dims: Sequence[int]) -> 'Value':
    """Returns the value whose axis i is axis dims[i] of this one."""
    return self._replace(order=tuple(self.order[dim] for dim in dims))


def of(array: Any) -> Value:
  """Returns the value of an array of torch's shape."""
  array = jnp.asarray(array)
  return Value(array, tuple(range(array.ndim)))


def laid_out(array: types.Array, axes: Sequence[int]) -> Value:
  """Returns the value of an array whose axes are torch's in a sequence."""
  return Value(array, tuple(int(axis) for axis in np.argsort(axes)))


def plain(tree: Any) -> Any:
  """Returns arguments with arrays of torch's shape in the place of values."""
  if isinstance(tree, Value):
    return tree.logical()
  if isinstance(tree, list | tuple):
    return type(tree)(plain(part) for part in tree)
  return tree


def aligned(operands: Sequence[Any]) -> tuple[list[Any], tuple[int, ...]]:
  """Returns the arrays of operands in one layout, ready to be broadcast.

  Args:
    operands: values and numbers, at least one value.

  Returns:
    The arrays, in the layout of the largest value, and its order.
  """
  found = [v for v in operands if isinstance(v, Value)]
  rank = max(v.ndim for v in found)
  full = [v for v in found if v.ndim == rank]
  lead = max(full, key=lambda v: math.prod(v.shape))
  sequence = np.argsort(lead.order)
  arrays = [
    _spread(v, sequence, rank) if isinstance(v, Value) else v for v in operands
  ]
  return arrays, lead.order


def _spread(value: Value, sequence, rank: int) -> types.Array:
  """Returns an array with torch's axes in a sequence, missing ones of size 1.

  A single number stays one: it adapts to what it meets.
  """
  if not value.ndim:
    return value.array
  missing = rank - value.ndim
  own = value.laid([axis - missing for axis in sequence if axis >= missing])
  new = [place for place, axis in enumerate(sequence) if axis < missing]
  return jnp.expand_dims(own, new) if new else own


def reshaped(value: Value, shape: Sequence[int]) -> Value:
  """Returns a value of another shape, torch's numbers in torch's order.

  Axes that are neither merged nor split stay where they are stored, and those
  that are go together if they are stored side by side.
  """
  shape = _completed(value.shape, shape)
  if not math.prod(shape):
    return of(value.logical().reshape(shape))
  groups = _groups(value.shape, shape)
  stored = sorted(
    value.order[i] for i, size in enumerate(value.shape) if size != 1
  )
  places = []
  for before, _ in groups:
    own = [stored.index(value.order[i]) for i in before if value.shape[i] != 1]
    if own and own != [*range(own[0], own[0] + len(own))]:
      return of(value.logical().reshape(shape))
    places.append(own[0] if own else len(stored))
  sequence = [
    axis
    for place in np.argsort(places, stable=True)
    for axis in groups[place][1]
  ]
  array = value.array.reshape([shape[axis] for axis in sequence])
  return laid_out(array, sequence)


def _completed(old: Sequence[int], new: Sequence[int]) -> tuple[int, ...]:
  """Returns a shape with its -1 replaced."""
  known = math.prod(size for size in new if size != -1)
  rest = math.prod(old) // known if known else 0
  return tuple(rest if size == -1 else size for size in new)


def _groups(
  old: Sequence[int], new: Sequence[int]
) -> list[tuple[list[int], list[int]]]:
  """Returns the smallest groups of axes that become groups of axes."""
  groups, i, j = [], 0, 0
  while i < len(old) or j < len(new):
    before, after = [], []
    if i < len(old):
      before, i = [i], i + 1
    if j < len(new):
      after, j = [j], j + 1
    sizes = math.prod(old[a] for a in before), math.prod(new[a] for a in after)
    while sizes[0] != sizes[1]:
      if sizes[0] < sizes[1] and i < len(old):
        before, i = [*before, i], i + 1
      elif j < len(new):
        after, j = [*after, j], j + 1
      else:
        before, i = [*before, i], i + 1
      sizes = (
        math.prod(old[a] for a in before),
        math.prod(new[a] for a in after),
      )
    groups.append((before, after))
  return groups
