"""Passes of a function that somebody else wrote, with offsets and sites.

The trace of a pass shows its layers, see `parts.recognition`. To what a kernel
gives, an offset is added, so that its gradient need not be formed, see
`ops.moments`. To every other parameter, an offset of its own shape is added,
whose derivative is its gradient, however the parameter is read. What is
recognised therefore decides how fast moments are computed, and what a network
can report of its layers, but never the value of a gradient.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

from giajax import trees
from giajax import types
from giajax.models.parts import graphs
from giajax.models.parts import recognition
from giajax.ops import jaxprs
from giajax.ops import lowered
from giajax.ops import moments


class Pass(NamedTuple):
  """What a pass computed, see `ProbeFn`.

  Attributes:
    result: what the function returned.
    sites: the input and the geometry of each layer, by path.
    outputs: the output of each layer with a kernel, by path, and each other
      parameter, by name.
    taps: the activations by name.
    places: the numbers of the equations of the layers, by path.
    made: those of the results, of the structure of `result`.
  """

  result: Any
  sites: dict[str, moments.Site]
  outputs: dict[str, types.Array]
  taps: dict[str, types.Array]
  places: dict[str, int]
  made: Any


def follow(
  fn: Callable[..., types.Tree],
  params: types.Tree,
  x: types.Array,
  rest: types.Tree,
  offsets: Mapping[str, types.Array] | None = None,
  *,
  lowering: str = 'auto',
  known: Collection[str] = (),
) -> Pass:
  """Returns `fn(params, x, rest)`, and what its layers read and gave.

  Args:
    fn: a pass.
    params: the parameters, a pytree.
    x: [B, H, W, C] images.
    rest: all other arguments, a pytree.
    offsets: what is added to the outputs of layers with kernels, by path, and
      to other parameters, by name; None for nothing.
    lowering: the name of a convolution lowering.
    known: the names of parameters that are not looked for.
  """
  closed, shapes = jax.make_jaxpr(jaxprs.flattened(fn), return_shape=True)(
    params, x, rest
  )
  leaves = trees.named_leaves(params)
  graph = graphs.graph(closed.jaxpr, len(leaves))
  variables = dict(zip(leaves, closed.jaxpr.invars))
  layers = recognition.find(graph, variables, known)
  own = {path: la for path, la in layers.items() if la.raw is not None}
  kernels = {la.names.get('kernel') for la in own.values()}
  formed = [n for n in leaves if n not in kernels and n not in known]

  def run(args, offsets):
    return _evaluate(
      closed, own, _moved(args, leaves, formed, offsets), offsets
    )

  args = jax.tree.leaves((params, x, rest))
  values, found = lowered.lowered(run, lowering)(args, offsets)
  inputs = {path: own[path].to_input(x) for path, (x, _) in found.items()}
  outputs = {path: _output(own[path], y) for path, (_, y) in found.items()}
  multiplied = {p: y for p, y in outputs.items() if 'kernel' in own[p].names}
  alone = {
    path: leaves[layer.names['value']]
    for path, layer in layers.items()
    if path not in own
  }
  places = [graph.place(v) for v in closed.jaxpr.outvars]
  treedef = jax.tree.structure(shapes)
  return Pass(
    jax.tree.unflatten(treedef, values),
    {
      path: _site(layer, (inputs | alone)[path], lowering)
      for path, layer in layers.items()
    },
    multiplied | {name: leaves[name] for name in formed},
    outputs | {f'{path}.input': x for path, x in inputs.items()},
    {path: layer.place for path, layer in layers.items()},
    jax.tree.unflatten(treedef, places),
  )


def _moved(args, leaves, formed, offsets):
  """Returns the arguments, with offsets added to parameters."""
  if offsets is None:
    return args
  params = [
    v + offsets[name] if name in formed else v for name, v in zip(leaves, args)
  ]
  return [*params, *args[len(params) :]]


def _evaluate(closed, layers, args, offsets):
  """Returns the results, and the input and output of each layer by path."""
  jaxpr, count = closed.jaxpr, len(closed.jaxpr.outvars)
  wanted = [v for layer in layers.values() for v in (layer.input, layer.end)]
  more = core.ClosedJaxpr(
    jaxpr.replace(outvars=[*jaxpr.outvars, *wanted]), closed.consts
  )
  rules = {} if offsets is None else _rules(layers, offsets)
  values = jaxprs.evaluate(
    more, args, lambda eqn: rules.get(next(iter(eqn.outvars), None))
  )
  pairs = zip(values[count::2], values[count + 1 :: 2], strict=True)
  return values[:count], dict(zip(layers, pairs))


def tapped(
  found: Mapping[str, types.Array], taps: Sequence[str], name: str
) -> dict[str, types.Array]:
  """Returns the activations that are wanted.

  Args:
    found: all activations, by tap.
    taps: the names of those that are wanted.
    name: the name of the network, for messages.

  Raises:
    ValueError: a tap that names no layer.
  """
  missing = sorted({*taps} - found.keys())
  if missing:
    raise ValueError(
      f'Expected taps that name a layer of {name}; got taps={missing}; use a '
      'layer path or path.input'
    )
  return {tap: found[tap] for tap in taps}


def _rules(layers, offsets):
  """Returns the rules that add offsets, by what an equation makes."""

  def rule(path, layer):
    def add(params, operands, original):
      del params
      (y,) = original(*operands)
      (offset,) = jax.linear_transpose(layer.to_output, y)(
        offsets[path].astype(y.dtype)
      )
      return [y + offset]

    return add

  return {
    layer.raw: rule(path, layer)
    for path, layer in layers.items()
    if 'kernel' in layer.names
  }


def _output(layer, y):
  shape = jax.ShapeDtypeStruct(layer.raw.aval.shape, y.dtype)
  return layer.to_output(jax.linear_transpose(layer.to_end, shape)(y)[0])


def _site(layer, x, lowering):
  return moments.Site(
    layer.kind,
    x,
    layer.geometry,
    lowering,
    layer.names,
    layer.layout,
    layer.why,
  )
