"""Runs programs in JAX."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from giajax import types
from giajax.models import aten
from giajax.models import layers
from giajax.models import torch_names
from giajax.models.aten import base
from giajax.models.aten.parts import programs
from giajax.models.aten.parts import values

# A parameter's leaf that is one by itself, for which any use has a site.
_WHOLE = 'value'


def evaluate(
  program: programs.Program,
  entries: Mapping[str, torch_names.Entry],
  leaves: Mapping[str, types.Array],
  images: types.Array,
  context: layers.Context,
) -> tuple[types.Array, dict[str, types.Array], base.Pass]:
  """Returns the results of a program.

  Args:
    program: the program.
    entries: where tensors of the module are among the leaves, by torch's name.
    leaves: parameters and running statistics in giajax's layout, by dotted
      name.
    images: [B, H, W, C], or rows [B, F], normalised.
    context: what the pass is asked for, and what it records.

  Returns:
    What the module returns, [B, K, ...]; running statistics that the pass
    moves, by dotted name; and what is known about it.
  """
  run = base.Pass(context, images.dtype)
  known: dict[str, Any] = {
    program.images: values.of(images)
    if images.ndim == 2
    else values.Value(images, (0, 3, 1, 2)),
  }
  sources = {**program.parameters, **program.buffers}

  def read(name):
    if name not in known:
      if name in program.constants:
        known[name] = values.of(_constant(run, program.constants[name]))
      else:
        known[name] = _variable(run, entries[sources[name]], leaves)
    return known[name]

  for index, step in enumerate(program.steps):
    run.index = index
    known[step.name] = _result(run, step, read)
  moved = {
    entries[target].name: _stored(read(name), entries[target])
    for target, name in program.moved.items()
  }
  return read(program.logits).logical(), moved, run


def _result(run: base.Pass, step: programs.Step, read: Any) -> Any:
  args, kwargs = _resolved((step.args, step.kwargs), read)
  if step.target == programs.GETITEM:
    return args[0][args[1]]
  result = aten.OPERATORS[step.target](run, *args, **kwargs)
  passed = getattr(result, 'name', '')
  for name in programs.refs((step.args, step.kwargs)):
    own = getattr(read(name), 'name', '')
    if own and own != passed:
      run.read[own] += 1
  return result


def _resolved(tree: Any, read: Any) -> Any:
  if isinstance(tree, programs.Ref):
    return read(tree.name)
  if isinstance(tree, dict):
    return {name: _resolved(part, read) for name, part in tree.items()}
  if isinstance(tree, list | tuple):
    parts = [_resolved(part, read) for part in tree]
    return tuple(parts) if isinstance(tree, tuple) else parts
  return tree


def _constant(run: base.Pass, array: Any) -> types.Array:
  kind = run.kind(str(array.dtype))
  return jnp.asarray(array, kind)


def _variable(
  run: base.Pass,
  entry: torch_names.Entry,
  leaves: Mapping[str, types.Array],
) -> values.Value:
  """Returns a parameter or a running statistic as torch sees it."""
  array, name = leaves[entry.name], entry.name
  if entry.section == 'params' and name.rpartition('.')[2] == _WHOLE:
    return values.of(run.parameter(name, array))
  return values.Value(array, entry.axes, name)


def _stored(value: values.Value, entry: torch_names.Entry) -> types.Array:
  """Returns a tensor in the layout of giajax's leaf."""
  back = sorted(range(len(entry.axes)), key=lambda axis: entry.axes[axis])
  return value.laid(back)
