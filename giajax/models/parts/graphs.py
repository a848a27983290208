"""Who makes and who reads the variables of a trace."""

from collections.abc import Mapping, Sequence
import math
from typing import Any, NamedTuple

import jax
from jax.extend import core
import jax.numpy as jnp
import numpy as np

from giajax import types

# Equations that give the numbers that they read, each once.
_TYPES = ('convert_element_type', 'copy')
_BIJECTIVE = (*_TYPES, 'reshape', 'squeeze', 'transpose')
# Equations that give some of the numbers, or some of them several times.
_COPIES = ('broadcast_in_dim', 'slice', 'tile')
_ROOTS = (0.5, -0.5)


class Graph(NamedTuple):
  """The equations of a trace that its results depend on.

  Attributes:
    made: the equation that makes a variable.
    readers: the equations that read a variable, once for each time; None for
      the results.
    seen: the variables that depend on the images.
    given: the variables that depend on any argument.
    parameters: the variables that are parameters, moved or not.
    order: the number of the equation that makes a variable.
  """

  made: Mapping[Any, core.JaxprEqn]
  readers: Mapping[Any, list[core.JaxprEqn | None]]
  seen: frozenset[Any]
  given: frozenset[Any]
  parameters: frozenset[Any]
  order: Mapping[Any, int]

  def place(self, atom: Any) -> int:
    """Returns the number of the equation that makes a value; -1 for none."""
    return self.order.get(atom, -1) if isinstance(atom, core.Var) else -1


def graph(jaxpr: core.Jaxpr, images: int) -> Graph:
  """Returns the graph of a trace.

  Args:
    jaxpr: of a function without calls.
    images: the number of the argument that holds the images; those before it
      are the parameters.
  """
  needed, eqns = set(_variables(jaxpr.outvars)), []
  for eqn in reversed(jaxpr.eqns):
    if eqn.effects or needed & {*eqn.outvars}:
      needed |= {*_variables(eqn.invars)}
      eqns.insert(0, eqn)
  readers: dict[Any, list[core.JaxprEqn | None]] = {}
  for eqn in eqns:
    for v in _variables(eqn.invars):
      readers.setdefault(v, []).append(eqn)
  for v in _variables(jaxpr.outvars):
    readers.setdefault(v, []).append(None)
  return Graph(
    made={v: eqn for eqn in eqns for v in eqn.outvars},
    readers=readers,
    seen=_after(eqns, {jaxpr.invars[images]}),
    given=_after(eqns, {*jaxpr.invars}),
    parameters=_after(filter(moves, eqns), {*jaxpr.invars[:images]}),
    order={v: i for i, eqn in enumerate(eqns) for v in eqn.outvars},
  )


def _after(eqns, variables) -> frozenset[Any]:
  """Returns the variables that depend on some."""
  for eqn in eqns:
    if variables & {*_variables(eqn.invars)}:
      variables |= {*eqn.outvars}
  return frozenset(variables)


def _variables(atoms) -> list[Any]:
  return [atom for atom in atoms if isinstance(atom, core.Var)]


class Reading(NamedTuple):
  """How an argument is read.

  Attributes:
    shape: of the argument.
    moves: the equations that move its numbers, one after another.
    var: what they give.
    eqn: the only equation that reads this; None if there is none, or more.
  """

  shape: tuple[int, ...]
  moves: tuple[core.JaxprEqn, ...]
  var: Any
  eqn: core.JaxprEqn | None

  @property
  def size(self) -> int:
    """The number of numbers."""
    return math.prod(self.shape)

  @property
  def still(self) -> bool:
    """Whether no number moves."""
    return all(e.primitive.name in _TYPES for e in self.moves)

  @property
  def bijective(self) -> bool:
    """Whether each number is read once."""
    return all(map(bijective, self.moves))

  def move(self, leaf: types.Array) -> types.Array:
    """Moves the numbers of an array like the argument; its type is kept."""
    return moved(
      [e for e in self.moves if e.primitive.name not in _TYPES], leaf
    )

  def axis(self) -> int | None:
    """Returns the axis that the numbers lie along, from the last; or None."""
    with jax.ensure_compile_time_eval():
      places = jnp.arange(self.size, dtype=jnp.float32).reshape(self.shape)
      view = np.asarray(self.move(places))
    along = [a for a in range(view.ndim) if np.diff(view, axis=a).any()]
    return along[0] - view.ndim if len(along) == 1 else None


def reading(graph: Graph, var: Any) -> Reading:
  """Returns how an argument of a trace is read."""
  shape, moved_by = tuple(var.aval.shape), []
  eqn = only_reader(graph, var)
  while eqn is not None and moves(eqn):
    moved_by.append(eqn)
    (var,) = eqn.outvars
    eqn = only_reader(graph, var)
  return Reading(shape, tuple(moved_by), var, eqn)


def only_reader(graph: Graph, var: Any) -> core.JaxprEqn | None:
  """Returns the equation that reads a variable, if one does, and once."""
  readers = graph.readers.get(var, [])
  return readers[0] if len(readers) == 1 else None


def moves(eqn: core.JaxprEqn) -> bool:
  """Returns whether an equation moves numbers, perhaps to several places."""
  return eqn.primitive.name in _COPIES or bijective(eqn)


def bijective(eqn: core.JaxprEqn) -> bool:
  """Returns whether an equation moves numbers, each to one place."""
  name, x, y = eqn.primitive.name, eqn.invars[:1], eqn.outvars[0]
  if name == 'broadcast_in_dim':
    return math.prod(x[0].aval.shape) == math.prod(y.aval.shape)  # pyrefly: ignore
  if name == 'convert_element_type':
    kinds = [v.aval.dtype for v in (*x, y)]  # pyrefly: ignore
    return all(jnp.issubdtype(kind, jnp.floating) for kind in kinds)
  return name in _BIJECTIVE


def moved(eqns: Sequence[core.JaxprEqn], x: types.Array) -> types.Array:
  """Returns what equations that move numbers make of an array."""
  for eqn in eqns:
    x = eqn.primitive.bind(x, **eqn.params)
  return x


def factor(eqn: core.JaxprEqn, var: Any) -> Any:
  """Returns what an equation multiplies a variable with, or None."""
  name = eqn.primitive.name
  if name not in ('mul', 'div') or len({*_variables(eqn.invars)}) < 2:
    return None
  a, b = eqn.invars
  if name == 'div':
    return b if a is var else None
  return b if a is var else a


def normalised(graph: Graph, var: Any) -> bool:
  """Returns whether a variable is a product with an inverse deviation.

  A product with a parameter is none: it is what a layer makes of one.

  Args:
    graph: the graph.
    var: the variable, or a number.
  """
  eqn = graph.made.get(var) if isinstance(var, core.Var) else None
  if eqn is None:
    return False
  name = eqn.primitive.name
  if name in ('rsqrt', 'sqrt') or (name == 'pow' and _halves(eqn)):
    return eqn.invars[0] in graph.given
  if name in ('mul', 'div') or moves(eqn):
    inputs = _variables(eqn.invars)
    return not graph.parameters & {*inputs} and any(
      normalised(graph, v) for v in {*inputs}
    )
  return False


def _halves(eqn) -> bool:
  power = eqn.invars[1]
  return isinstance(power, core.Literal) and float(power.val) in _ROOTS


def before_norm(graph: Graph, var: Any, shape: tuple[int, ...]) -> Any:
  """Returns what was shifted and divided by a deviation to make a variable.

  Args:
    graph: the graph.
    var: the variable.
    shape: the shape that it should have, if it had that before it was moved.
  """
  while (eqn := graph.made.get(var)) is not None:
    name, first = eqn.primitive.name, eqn.invars[0]
    if name == 'sub' and first in graph.seen:
      return _of_shape(graph, first, shape)
    inputs = [first] if bijective(eqn) else []
    if name in ('mul', 'div'):
      a, b = eqn.invars
      inputs = [u for u, v in ((a, b), (b, a)) if normalised(graph, v)]
    inputs = [v for v in inputs if v in graph.seen]
    if not inputs:
      break
    var = inputs[0]
  return _of_shape(graph, var, shape)


def _of_shape(graph, var, shape):
  at = var
  while at.aval.shape != shape:
    eqn = graph.made.get(at)
    if eqn is None or not bijective(eqn):
      return var
    at = eqn.invars[0]
  return at
