"""The layers of a function that somebody else wrote, recognised in its trace.

A trace says which equation reads a parameter. Equations that only move its
numbers are followed, and the one after them says what the parameter is:

  kernel  a factor of a convolution or a matrix product with what was computed
          of the images
  scale   a factor of what was divided by a standard deviation
  bias    is added to what one of these two gives, a number per feature
  value   is added to, multiplied with or put beside anything else: positions,
          tokens
  other   everything else: it is read twice, inside a loop, by a gather
"""

from collections.abc import Callable, Collection, Mapping
import math
from typing import Any, NamedTuple

from jax.extend import core
import jax.numpy as jnp

from giajax import types
from giajax.models.parts import graphs
from giajax.ops import geometries
from giajax.ops import lowered

# What reads a value.
_READERS = ('add', 'add_any', 'concatenate', 'div', 'mul', 'sub')


class Layer(NamedTuple):
  """What a trace says about a layer, or about a parameter by itself.

  Attributes:
    kind: as in `moments.Site`.
    names: the dotted names of its parameters, by 'kernel', 'bias', ...
    place: where the pass meets it first, for the order of layers.
    raw: what its equation gives; None for a parameter by itself.
    end: the same with its bias.
    input: what it reads.
    features: the number of its features.
    to_input: maps what it reads to giajax's layout.
    to_output: maps `raw` to giajax's layout.
    to_end: maps `raw` to the layout of `end`.
    layout: maps its kernel to giajax's layout.
    geometry: the geometry of a convolution.
    why: what is in the way of knowing more.
  """

  kind: str
  names: dict[str, str]
  place: int
  raw: core.Var | None = None
  end: core.Var | None = None
  input: core.Var | None = None
  features: int = 0
  to_input: Callable[[types.Array], types.Array] = lambda x: x
  to_output: Callable[[types.Array], types.Array] = lambda y: y
  to_end: Callable[[types.Array], types.Array] = lambda y: y
  layout: Callable[[types.Array], types.Array] | None = None
  geometry: geometries.Geometry = geometries.Geometry()
  why: str = ''


def find(
  graph: graphs.Graph, leaves: Mapping[str, Any], known: Collection[str] = ()
) -> dict[str, Layer]:
  """Returns the layers of a pass by path, in its order.

  The path of a layer is the name of its kernel, or scale, without the last
  part, or all of it where that is no name or another's, too.

  Args:
    graph: of a pass.
    leaves: the variables of the parameters, by dotted name.
    known: the names of those that are not looked for.
  """
  readings = {
    name: graphs.reading(graph, var)
    for name, var in leaves.items()
    if name not in known
  }
  found: dict[str, Layer] = {}
  for name, reading in readings.items():
    layer = _kernel(graph, name, reading) or _scale(graph, name, reading)
    if layer is not None:
      found[name] = layer
  ends = {layer.end: name for name, layer in found.items()}
  for name in [name for name in readings if name not in found]:
    owner = _owner(graph, readings[name], ends, found)
    if owner is None:
      found[name] = _value(graph, name, readings[name])
    else:
      names = {**found[owner].names, 'bias': name}
      found[owner] = _with_bias(graph, found[owner], readings[name], names)
  return _by_path(found)


def _by_path(found: Mapping[str, Layer]) -> dict[str, Layer]:
  """Returns layers by path, in the order of the pass, from those by name."""
  short = {
    name: name.rpartition('.')[0] if layer.raw is not None else ''
    for name, layer in found.items()
  }
  used = [*short.values()]

  def path(name):
    own = short[name] and used.count(short[name]) == 1
    return short[name] if own else name.removesuffix('.value')

  ordered = sorted(found, key=lambda name: (found[name].place, name))
  return {path(name): found[name] for name in ordered}


def _kernel(graph, name, reading) -> Layer | None:
  """Returns the layer of a kernel, or None."""
  eqn = reading.eqn
  if eqn is None or not reading.bijective:
    return None
  make = {'conv_general_dilated': _convolution, 'dot_general': _product}
  if eqn.primitive.name not in make or len(set(eqn.invars)) < 2:
    return None
  side = eqn.invars.index(reading.var)
  if eqn.invars[1 - side] not in graph.seen:
    return None
  layer = make[eqn.primitive.name](eqn, side, reading)
  y = eqn.outvars[0]
  return layer and layer._replace(
    names={'kernel': name},
    place=graph.order[y],
    raw=y,
    end=y,
    input=eqn.invars[1 - side],
  )


def _convolution(eqn, side, reading) -> Layer | None:
  if side == 0 or not lowered.has_form(eqn):
    return None
  form = lowered.form(eqn.params)
  spec = eqn.params['dimension_numbers'].rhs_spec
  lies = reading.still and spec == (3, 2, 0, 1)  # HWIO

  def layout(leaf):
    return form.kernel(reading.move(leaf))

  return Layer(
    'conv',
    {},
    0,
    features=reading.var.aval.shape[spec[0]],
    to_input=form.image,
    to_output=form.output,
    layout=None if lies else layout,
    geometry=form.geometry,
  )


def _product(eqn, side, reading) -> Layer | None:
  contracted, batch = eqn.params['dimension_numbers']
  if any(map(len, batch)) or not contracted[0]:
    return None
  shapes = [v.aval.shape for v in eqn.invars]
  free = [
    [axis for axis in range(len(shape)) if axis not in axes]
    for shape, axes in zip(shapes, contracted)
  ]
  features = math.prod(shapes[side][axis] for axis in free[side])
  kept = [shapes[1 - side][axis] for axis in free[1 - side]]
  lies = reading.still and (*contracted[side], *free[side]) == (0, 1)

  def to_input(x):
    axes = (*free[1 - side], *contracted[1 - side])
    return x.transpose(axes).reshape(*kept, -1)

  def to_output(y):
    first = len(free[0])
    axes = [*range(y.ndim)]
    axes = axes if side else [*axes[first:], *axes[:first]]
    return y.transpose(axes).reshape(*kept, features)

  def layout(leaf):
    axes = (*contracted[side], *free[side])
    return reading.move(leaf).transpose(axes).reshape(-1, features)

  return Layer(
    'linear',
    {},
    0,
    features=features,
    to_input=to_input,
    to_output=to_output,
    layout=None if lies else layout,
  )


def _scale(graph, name, reading) -> Layer | None:
  """Returns the layer of a factor of something normalised, or None."""
  y, factors = _product_of(graph, reading)
  if y is None or not any(graphs.normalised(graph, f) for f in factors):
    return None
  axis, shape = reading.axis(), y.aval.shape
  size = max(math.prod(factor.aval.shape) for factor in factors)
  whole = [f for f in factors if math.prod(f.aval.shape) == size]

  def features_last(x):
    fits = axis is not None and x.ndim == len(shape)
    return jnp.moveaxis(x, axis, -1) if fits else x

  return Layer(
    'scale',
    {'scale': name},
    graph.order[reading.eqn.outvars[0]],
    raw=y,
    end=y,
    input=graphs.before_norm(graph, whole[-1], shape),
    features=reading.size,
    to_input=features_last,
    to_output=features_last,
  )


def _product_of(graph, reading) -> tuple[Any, list[Any]]:
  """Returns the product of a parameter with what depends on images, or None.

  A parameter may meet the inverse deviation first, and the images later. All of
  its factors come second.
  """
  var, eqn, y, factors = reading.var, reading.eqn, None, []
  while eqn is not None:
    factor = graphs.factor(eqn, var)
    done = y is not None and factor in graph.parameters  # of another layer
    if done or (factor is None and not graphs.moves(eqn)):
      break
    (var,) = eqn.outvars
    if factor is not None:
      factors.append(factor)
      y = var if var in graph.seen else None
    eqn = graphs.only_reader(graph, var)
  return y, factors


def _owner(graph, reading, ends, found) -> str | None:
  """Returns whose features a parameter is added to, one number to each."""
  eqn = reading.eqn
  if eqn is None or eqn.primitive.name != 'add':
    return None
  start, _ = _back(graph, reading, ends)
  owner = ends.get(start)
  if owner is None or found[owner].end is not start:
    return None
  y: Any = eqn.outvars[0]
  fits = math.prod(y.aval.shape) == math.prod(found[owner].raw.aval.shape)
  return owner if fits and reading.size == found[owner].features else None


def _with_bias(graph, layer, reading, names) -> Layer:
  """Returns the layer that ends where its bias is added."""
  _, moves = _back(graph, reading, {layer.end})
  (end,) = reading.eqn.outvars
  return layer._replace(
    names=names, end=end, to_end=lambda y: graphs.moved(moves, y)
  )


def _back(graph, reading, ends):
  """Returns what a parameter is added to, before and by which moves."""
  (var,) = (v for v in reading.eqn.invars if v is not reading.var)
  moves: list[core.JaxprEqn] = []
  while isinstance(var, core.Var) and var not in ends:
    maker = graph.made.get(var)
    if maker is None or not graphs.bijective(maker):
      break
    moves.insert(0, maker)
    var = maker.invars[0]
  return var if isinstance(var, core.Var) else None, moves


def _value(graph, name, reading) -> Layer:
  """Returns what is known of a parameter that belongs to no layer."""
  readers = graph.readers.get(reading.var, [])
  places = [graph.place(y) for eqn in readers if eqn for y in eqn.outvars]
  why = ''
  if len(readers) > 1:
    why = f'{name!r} is read {len(readers)} times'
  elif readers and reading.eqn is None:
    why = f'{name!r} is returned as it is'
  elif readers and not _joins(graph, reading):
    why = f'{name!r} is read by {reading.eqn.primitive.name}'
  kind = 'other' if why else 'value'
  return Layer(kind, {'value': name}, min(places, default=0), why=why)


def _joins(graph, reading) -> bool:
  """Returns whether a parameter joins what depends on the images.

  Where that is broadcast to meet it, the two may be a product that is summed
  later on.
  """
  eqn, name = reading.eqn, reading.eqn.primitive.name
  if name not in _READERS:
    return False
  shapes = [v.aval.shape for v in eqn.invars if v in graph.seen]
  return eqn.outvars[0].aval.shape in shapes or (
    name == 'concatenate' and bool(shapes)
  )
