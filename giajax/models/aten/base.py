"""What an operator is, and what it may ask of the pass that it is part of."""

import collections
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp

from giajax import keys
from giajax import types
from giajax.models import layers
from giajax.models.aten.parts import values
from giajax.ops import geometries
from giajax.ops import moments

# The leaf that a layer of a kind multiplies with, and where torch's axes are in
# it, see `torch_names`.
_WEIGHTS = {
  'conv': ('kernel', (3, 2, 0, 1)),
  'linear': ('kernel', (1, 0)),
  'scale': ('scale', (0,)),
}


class Operator(Protocol):
  """One operator of ATen, by torch's definition."""

  def __call__(self, run: 'Pass', *args: Any, **kwargs: Any) -> Any:
    """Returns a value, or a tuple of values as torch does.

    Args:
      run: the pass.
      *args: torch's arguments, with values for tensors and names for types.
      **kwargs: torch's arguments that are given by name.
    """
    ...


class Place(NamedTuple):
  """Where in the module an operator stands, as `layers.Context` asks it."""

  path: str


class Pass:
  """One forward pass.

  Attributes:
    context: what the pass is asked for, and what it records.
    dtype: the type of the images, in which the pass computes.
    index: the number of the operator that is evaluated, for its random draws.
    drawn: whether random numbers were drawn.
    read: how often an operator has read each parameter.
    covered: how often a site describes what was done with each parameter.
  """

  def __init__(self, context: layers.Context, dtype: Any):
    self.context = context
    self.dtype = dtype
    self.index = 0
    self.drawn = False
    self.read: collections.Counter[str] = collections.Counter()
    self.covered: collections.Counter[str] = collections.Counter()

  def draw(self) -> types.Array:
    """Returns the key of the operator's random draws in this pass.

    Raises:
      ValueError: the pass was given no key.
    """
    self.drawn = True
    if self.context.key is None:
      raise ValueError(
        'Expected a key for a pass that draws random numbers; got key=None; '
        'pass one to apply'
      )
    return keys.at(self.context.key, self.index)

  def kind(self, dtype: str | None) -> Any:
    """Returns the type that stands for a type of torch's.

    That of the images stands for float32 and float64, so that a pass in another
    precision stays in it.
    """
    if dtype in (None, 'float32', 'float64'):
      return self.dtype
    return _TYPES[dtype]

  def site(
    self,
    kind: str,
    operands: tuple[Any, Any],
    x: types.Array,
    y: types.Array,
    geometry: geometries.Geometry | None = None,
    *,
    normal: types.Array | None = None,
  ) -> types.Array:
    """Records that a layer mapped x to y; returns y with its offset added.

    Args:
      kind: of `moments.Site`.
      operands: weight and bias, as the operator received them.
      x: what the layer read, channels last.
      y: its output, channels last.
      geometry: of a convolution.
      normal: what a normalisation multiplied with its weight.
    """
    weight, bias = (getattr(operand, 'name', '') for operand in operands)
    path, _, leaf = weight.rpartition('.')
    if not weight or (leaf, operands[0].order) != _WEIGHTS[kind]:
      return y
    self.covered[weight] += 1
    if bias == f'{path}.bias':
      self.covered[bias] += 1
    if path in self.context.sites:
      return y  # a second time, for which there are no sites
    site = moments.Site(kind, x if normal is None else normal)
    if geometry is not None:
      site = moments.Site(kind, x, geometry, self.context.lowering)
    return self.context.record(Place(path), x, y, site)

  def parameter(self, name: str, value: types.Array) -> types.Array:
    """Records a parameter that is one by itself; returns it with its offset."""
    path = name.rpartition('.')[0]
    site = moments.Site('value', value)
    self.covered[name] = self.read[name] = 1
    return self.context.record(Place(path), None, value, site)


# By torch's names. Integers of 64 bits are indices here.
_TYPES = {
  'bool': jnp.bool_,
  'uint8': jnp.uint8,
  'int8': jnp.int8,
  'int16': jnp.int16,
  'int32': jnp.int32,
  'int64': jnp.int32,
  'float16': jnp.float16,
  'bfloat16': jnp.bfloat16,
}


def plain(fn: Any) -> Operator:
  """Returns the operator of a function of arrays of torch's shapes."""

  def operator(run, *args, **kwargs):
    del run
    named = {key: values.plain(value) for key, value in kwargs.items()}
    out = fn(*map(values.plain, args), **named)
    if isinstance(out, list | tuple):
      return tuple(values.of(part) for part in out)
    return values.of(out)

  return operator


def unary(fn: Any) -> Operator:
  """Returns the operator of a function that maps numbers one by one."""

  def operator(run, x, *args, **kwargs):
    del run
    return x.with_array(fn(x.array, *args, **kwargs))

  return operator


def broadcast(fn: Any, count: int = 2) -> Operator:
  """Returns the operator of a function of numbers of several arrays.

  Args:
    fn: a function of arrays that broadcast, and of what is no array.
    count: the number of leading arguments that may be arrays.
  """

  def operator(run, *args, **kwargs):
    del run
    arrays, order = values.aligned(args[:count])
    return values.Value(fn(*arrays, *args[count:], **kwargs), order)

  return operator
