"""Ordinary flax.nnx layers in a functional pass: mode, keys, convolutions.

Layers of `models.layers` read a context; those of flax have attributes for
their mode, and draw from streams of random numbers that count.
"""

from collections.abc import Mapping
import functools
from typing import Any

from flax import nnx
import jax
from jax import lax
import jax.numpy as jnp

from giajax import keys
from giajax import types
from giajax.models import layers
from giajax.ops import lowered

# What a module may keep, besides its parameters and running statistics.
_DRAWS = nnx.RngState
_KNOWN = 'nnx.Param, nnx.BatchStat and random streams'


def split(module: nnx.Module, name: str) -> tuple[Any, Any, Any, Any]:
  """Returns graph definition, parameters, running statistics and streams.

  Args:
    module: the module.
    name: the name of the network, for messages.

  Raises:
    ValueError: it keeps something else.
  """
  graphdef, params, stats, streams, rest = nnx.split(
    module, nnx.Param, nnx.BatchStat, _DRAWS, ...
  )
  other = [
    f'{type(leaf).__name__} {".".join(map(str, path))}'
    for path, leaf in nnx.to_flat_state(rest)
  ]
  if other:
    raise ValueError(
      f'Expected a module that keeps {_KNOWN}; got {other[0]} in {name}; bring '
      'it by from_callable'
    )
  return graphdef, params, stats, streams


def names(module: nnx.Module) -> frozenset[str]:
  """Returns the paths of layers that have variables and are not of giajax."""
  own = {
    path
    for path, layer in nnx.iter_modules(module)
    if isinstance(layer, layers.Layer)
  }
  _, state = nnx.split(module)
  holders = {
    path[:-1]
    for path, leaf in nnx.to_flat_state(state)
    if not isinstance(leaf, _DRAWS)
  }
  return frozenset('.'.join(map(str, path)) for path in holders - own)


def streams(state: Any, key: types.Array | None) -> Any:
  """Returns the random streams of a pass, each at its start.

  Args:
    state: the streams, with shapes in the place of arrays.
    key: the key of the pass, or None; its streams are drawn from by nobody.
  """
  root = jax.random.key(0) if key is None else key

  def start(path, leaf):
    shape = leaf.get_value().shape  # of stacked layers, one for each
    if not isinstance(leaf, nnx.RngKey):
      return leaf.replace(jnp.zeros(shape, jnp.uint32))
    own = keys.named(root, '.'.join(map(str, path)))
    return leaf.replace(jax.random.split(own, shape) if shape else own)

  flat = [(path, start(path, leaf)) for path, leaf in nnx.to_flat_state(state)]
  return nnx.from_flat_state(flat)


def set_mode(module: nnx.Module, context: layers.Context) -> None:
  """Gives the layers of flax the mode of a pass, and our convolutions.

  A layer of whose parameters none is trained keeps its running statistics, as
  those of giajax do.
  """
  modules: list[tuple[Any, Any]] = [*nnx.iter_modules(module)]
  for path, layer in modules:
    if isinstance(layer, layers.Layer):
      continue
    if _can_set(layer, 'use_running_average'):
      still = '.'.join(map(str, path)) in context.frozen
      layer.use_running_average = still or not context.train
    if _can_set(layer, 'deterministic'):
      layer.deterministic = not context.train
    if isinstance(layer, nnx.Conv) and not context.traced:
      layer.conv_general_dilated = functools.partial(
        _convolve, context.lowering
      )


def _can_set(layer: nnx.Module, name: str) -> bool:
  own = getattr(type(layer), name, None)
  fixed = isinstance(own, property) and own.fset is None
  return hasattr(layer, name) and not fixed


def counts(module: nnx.Module) -> dict[tuple[Any, ...], Any]:
  """Returns the counts of random numbers that were drawn, by their paths."""
  flat = nnx.to_flat_state(nnx.state(module, nnx.RngCount))
  return {path: leaf.get_value() for path, leaf in flat}


def check_key(
  module: nnx.Module,
  before: Mapping[tuple[Any, ...], Any],
  context: layers.Context,
) -> None:
  """Raises ValueError if a training pass has drawn without a key.

  Args:
    module: the module after its pass.
    before: the counts before it.
    context: of the pass.
  """
  context.counts = [*before.values()], [*counts(module).values()]
  if context.key is not None or not context.train:
    return
  # Counting makes another array.
  drawn = [p for p, count in counts(module).items() if count is not before[p]]
  if drawn:
    raise ValueError(
      f'Expected a key for a training pass through {_layer(drawn[0])!r}, which '
      'draws random numbers; got key=None; pass one to apply'
    )


def _layer(path) -> str:
  return '.'.join(map(str, path[:-2]))


def statistics(module: nnx.Module) -> Mapping[str, types.Array]:
  """Returns the running statistics after a pass, by their paths."""
  return {
    '.'.join(map(str, path)): leaf.get_value()
    for path, leaf in nnx.to_flat_state(nnx.state(module, nnx.BatchStat))
  }


def _convolve(lowering, x, kernel, *args, **more):
  def convolve(x, kernel):
    return lax.conv_general_dilated(x, kernel, *args, **more)

  return lowered.lowered(convolve, lowering)(x, kernel)
