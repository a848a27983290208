"""Flax.nnx modules as pure functions, such as a Net.

Layers of `layers` report what they read and wrote. That of ordinary layers of
flax is found in the trace of a pass; they keep to its mode and to its key.
"""

from collections.abc import Callable, Mapping
import math
from typing import Any, NamedTuple

from flax import nnx
import jax
import numpy as np

from giajax import keys
from giajax import trees
from giajax import types
from giajax.models import base
from giajax.models import layers
from giajax.models.parts import counters
from giajax.models.parts import foreign
from giajax.models.parts import mixed
from giajax.models.parts import modes
from giajax.models.parts import norms
from giajax.models.parts import traced

_MOST_PARAMETERS = 2**31 - 1


class Pure(NamedTuple):
  """A flax.nnx module as pure functions of its variables.

  Attributes:
    init: `(key) -> Variables`; the key is consumed.
    run: `(variables, context, call) -> (result, stats)`: what `call(module)`
      returns in a pass, and the running statistics after it.
    abstract: the module with shapes in the place of arrays.
    foreign: the paths of layers with variables that are not made of `layers`.
    own: the dotted names of the parameters of those that are.
  """

  init: Callable[[types.Array], types.Variables]
  run: Callable[
    [types.Variables, layers.Context, Callable[[Any], Any]],
    tuple[Any, types.Tree],
  ]
  abstract: Any
  foreign: frozenset[str]
  own: frozenset[str]


def pure(make: Callable[[nnx.Rngs], nnx.Module], name: str) -> Pure:
  """Returns a flax.nnx module as pure functions.

  Args:
    make: a function `(rngs) -> module`.
    name: the name of the network, for messages.

  Raises:
    ValueError: more parameters than JAX can number, or variables that are
      neither parameters nor running statistics nor random streams.
  """
  abstract = nnx.eval_shape(lambda: make(counters.rngs(default=0)))
  graphdef, params, stats, streams = foreign.split(abstract, name)
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
    rngs = counters.rngs(params=key, default=keys.named(key, 'default'))
    _, params, stats, _ = foreign.split(make(rngs), name)
    return types.Variables(pack_params(params), pack_stats(stats))

  def run(variables, context, call):
    module = nnx.merge(
      graphdef,
      unpack_params(base.whole(variables)),
      unpack_stats(variables.stats),
      foreign.streams(streams, context.key),
      copy=True,
    )
    layers.bind(module, context)
    context.frozen = base.frozen_layers(variables)
    foreign.set_mode(module, context)
    before = foreign.counts(module)
    result = call(module)
    foreign.check_key(module, before, context)
    if not context.traced:
      traced.tapped(context.tapped, context.taps, name)
    flat = trees.named_leaves(variables.stats)
    fresh = {
      f'{path}.{leaf}': value
      for path, values in context.stats.items()
      for leaf, value in values.items()
    }
    moved = foreign.statistics(module) if others else {}
    return result, trees.nested({**flat, **moved, **fresh})

  others = foreign.names(abstract)
  names = ('.'.join(map(str, path)) for path, _ in nnx.to_flat_state(params))
  own = frozenset(n for n in names if n.rpartition('.')[0] not in others)
  return Pure(init, run, abstract, others, own)


def from_nnx(
  make: Callable[[nnx.Rngs], nnx.Module],
  spec: base.Spec,
  lowering: str = 'auto',
  *,
  constants: Mapping[str, np.ndarray] | None = None,
) -> base.Net:
  """Returns the Net of a flax.nnx module.

  Of ordinary layers of flax, those that have `use_running_average` or
  `deterministic` are set to the mode of each pass, whatever they were made
  with, and random streams start from its key. What they read and wrote is found
  in the trace of the pass, see `parts.recognition`.

  Args:
    make: a function `(rngs) -> module`; the module maps normalised images to
      logits, or to what its task reads.
    spec: the static facts about the network; its `mean` and `std` normalise the
      images.
    lowering: name of the convolution lowering.
    constants: as of the Net.

  Raises:
    ValueError: more parameters than JAX can number; variables that are neither
      parameters nor running statistics nor random streams; running statistics
      that a training pass leaves or an inference pass moves. `apply` raises it
      for a training pass that draws random numbers and was given no key.
  """
  functions = pure(make, spec.name)

  def call(x):
    def of_module(module):
      front = getattr(module, base.FRONT, None)
      return module(x if front is None else front(x))

    return of_module

  def run(variables, x, context):
    x = base.inputs(x, spec)
    logits, stats = functions.run(variables, context, call(x))
    return types.Output(logits, stats, context.tapped, context.penalty)

  def apply(variables, x, *, train=False, taps=(), key=None):
    if taps and functions.foreign:
      return probe(variables, x, None, train=train, taps=taps, key=key)[0]
    context = layers.Context(train, lowering, tuple(taps), key=key)
    return run(variables, x, context)

  def probe(variables, x, offsets, *, train=False, taps=(), key=None):
    context = layers.Context(train, lowering, tuple(taps), offsets, key)
    if functions.foreign:
      x = base.inputs(x, spec)
      return mixed.probe(functions, call, variables, x, context, spec.name)
    output = run(variables, x, context)
    return output, context.sites, context.outputs

  def edit(change):
    def edited(rngs):
      module = make(rngs)
      change(module, rngs)
      return module

    return from_nnx(edited, spec, lowering, constants=constants)

  net = base.Net(functions.init, apply, probe, spec, edit, constants=constants)
  if functions.foreign:
    _check_modes(functions.init, run, spec)
    return net
  momenta = {
    '.'.join(map(str, path)): layer.momentum
    for path, layer in nnx.iter_modules(functions.abstract)
    if isinstance(layer, norms.BatchNorm)
  }
  return net._replace(momenta=momenta)


def _check_modes(init, run, spec: base.Spec) -> None:
  """Raises ValueError where a pass does not keep to its mode."""

  def passed(variables, x, train, key):
    return run(variables, x, layers.Context(train, 'lax', key=key))

  def counts(variables, x):
    context = layers.Context(False, 'lax')
    run(variables, x, context)
    return context.counts

  variables = jax.eval_shape(init, jax.random.key(0))
  wrong = modes.fault(passed, variables, spec)
  if modes.differ(counts, variables, spec):
    wrong = 'draws random numbers in an inference pass'
  if wrong:
    raise ValueError(
      f'Expected a module whose layers listen to its mode; got {spec.name}, '
      f'which {wrong}; leave use_running_average and deterministic to the pass'
    )


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
