"""Flax.nnx modules made of `layers` as pure functions, such as a Net."""

from collections.abc import Callable, Mapping
import math
from typing import Any, NamedTuple

from flax import nnx
import jax

from giajax import trees
from giajax import types
from giajax.models import base
from giajax.models import layers
from giajax.models.parts import norms

_MOST_PARAMETERS = 2**31 - 1


class Pure(NamedTuple):
  """A flax.nnx module as pure functions of its variables.

  Attributes:
    init: `(key) -> Variables`; the key is consumed.
    run: `(variables, context, call) -> (result, stats)`: what `call(module)`
      returns in a pass, and the running statistics after it.
    abstract: the module with shapes in the place of arrays.
  """

  init: Callable[[types.Array], types.Variables]
  run: Callable[
    [types.Variables, layers.Context, Callable[[Any], Any]],
    tuple[Any, types.Tree],
  ]
  abstract: Any


def pure(make: Callable[[nnx.Rngs], nnx.Module], name: str) -> Pure:
  """Returns a flax.nnx module made of `layers` as pure functions.

  Args:
    make: a function `(rngs) -> module`.
    name: the name of the network, for messages.

  Raises:
    ValueError: more parameters than JAX can number.
  """
  abstract = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
  graphdef, params, stats = nnx.split(abstract, nnx.Param, nnx.BatchStat)
  size = sum(math.prod(p.shape) for p in jax.tree.leaves(params))
  if size > _MOST_PARAMETERS:
    raise ValueError(
      f'Expected a network of at most {_MOST_PARAMETERS} parameters; got '
      f'{name} with {size}; lower its widths or the size of its images'
    )
  pack_params, unpack_params = _packing(params)
  pack_stats, unpack_stats = _packing(stats)

  # Not compiled as a whole: XLA takes seconds for one draw per parameter.
  def init(key: types.Array) -> types.Variables:
    _, params, stats = nnx.split(
      make(nnx.Rngs(params=key)), nnx.Param, nnx.BatchStat
    )
    return types.Variables(pack_params(params), pack_stats(stats))

  def run(variables, context, call):
    module = nnx.merge(
      graphdef,
      unpack_params(base.whole(variables)),
      unpack_stats(variables.stats),
      copy=True,
    )
    layers.bind(module, context)
    context.frozen = base.frozen_layers(variables)
    result = call(module)
    missing = set(context.taps) - set(context.tapped)
    if missing:
      raise ValueError(
        f'Expected taps that name a layer of {name}; got '
        f'taps={sorted(missing)}; use a layer path or path.input'
      )
    flat = trees.named_leaves(variables.stats)
    fresh = {
      f'{path}.{leaf}': value
      for path, values in context.stats.items()
      for leaf, value in values.items()
    }
    return result, trees.nested({**flat, **fresh})

  return Pure(init, run, abstract)


def from_nnx(
  make: Callable[[nnx.Rngs], nnx.Module],
  spec: base.Spec,
  lowering: str = 'auto',
) -> base.Net:
  """Returns the Net of a flax.nnx module made of `layers`.

  Args:
    make: a function `(rngs) -> module`; the module maps normalised images to
      logits.
    spec: the static facts about the network; its `mean` and `std` normalise the
      images.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: more parameters than JAX can number.
  """
  functions = pure(make, spec.name)

  def run(variables, x, context):
    x = base.normalise(x, spec)

    def call(module):
      front = getattr(module, base.FRONT, None)
      return module(x if front is None else front(x))

    logits, stats = functions.run(variables, context, call)
    return types.Output(logits, stats, context.tapped, context.penalty)

  def apply(variables, x, *, train=False, taps=(), key=None):
    context = layers.Context(train, lowering, tuple(taps), key=key)
    return run(variables, x, context)

  def probe(variables, x, offsets, *, train=False, taps=(), key=None):
    context = layers.Context(train, lowering, tuple(taps), offsets, key)
    output = run(variables, x, context)
    return output, context.sites, context.outputs

  def edit(change):
    def edited(rngs):
      module = make(rngs)
      change(module, rngs)
      return module

    return from_nnx(edited, spec, lowering)

  momenta = {
    '.'.join(map(str, path)): layer.momentum
    for path, layer in nnx.iter_modules(functions.abstract)
    if isinstance(layer, norms.BatchNorm)
  }
  return base.Net(functions.init, apply, probe, spec, edit, momenta)


def _packing(
  state: Any,
) -> tuple[Callable[[Any], types.Tree], Callable[[types.Tree], Any]]:
  """Returns functions from an nnx state to a nested dict, and back."""
  paths = [path for path, _ in nnx.to_flat_state(state)]
  names = ['.'.join(map(str, path)) for path in paths]

  def pack(state):
    flat = dict(nnx.to_flat_state(state))
    return trees.nested({n: flat[p][...] for n, p in zip(names, paths)})

  def unpack(tree: Mapping[str, Any]):
    flat = trees.named_leaves(tree)
    _, treedef = jax.tree.flatten(state)
    return jax.tree.unflatten(treedef, [flat[name] for name in names])

  return pack, unpack
