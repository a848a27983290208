"""The two modes of a pass: what a network may do in each, found by tracing."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core
import jax.numpy as jnp

from giajax import types
from giajax.models import base
from giajax.ops import jaxprs

# `(variables, x, train, key) -> Output`; the key is None in an inference pass.
Run = Callable[[types.Variables, types.Array, bool, Any], types.Output]


def fault(run: Run, variables: types.Variables, spec: base.Spec) -> str:
  """Returns how the modes cannot be told apart, '' if they can.

  Args:
    run: a pass.
    variables: with shapes in the place of arrays.
    spec: the static facts about the network.
  """
  if not variables.stats:
    return ''
  if _moves(run, variables, spec, train=False):
    return 'moves running statistics in an inference pass'
  if not _moves(run, variables, spec, train=True):
    return 'leaves running statistics in a training pass'
  return ''


def draws(run: Run, variables: types.Variables, spec: base.Spec) -> bool:
  """Returns whether a training pass depends on its key."""

  def out(key, variables, x):
    output = run(variables, x, True, key)
    return output.out, output.stats

  closed = jax.make_jaxpr(out)(jax.random.key(0), variables, _images(spec))
  key = closed.jaxpr.invars[0]
  return any(key in _atoms(eqn.invars) for eqn in closed.jaxpr.eqns)


def require_key(key: types.Array | None, spec: base.Spec) -> None:
  """Raises ValueError if a pass that draws random numbers was given no key."""
  if key is None:
    raise ValueError(
      f'Expected a key for a training pass through {spec.name}, which draws '
      'random numbers; got key=None; pass one to apply'
    )


def differ(
  pairs: Callable[[types.Variables, types.Array], tuple[Any, Any]],
  variables: types.Variables,
  spec: base.Spec,
) -> bool:
  """Returns whether a pass returns two trees that are not the same.

  Args:
    pairs: `(variables, x) -> two trees`, of arrays that it makes.
    variables: with shapes in the place of arrays.
    spec: the static facts about the network.
  """
  flat = jaxprs.flattened(pairs)
  atoms = _atoms(jax.make_jaxpr(flat)(variables, _images(spec)).jaxpr.outvars)
  half = len(atoms) // 2
  return atoms[:half] != atoms[half:]


def _moves(run, variables, spec, *, train: bool) -> bool:

  def stats(variables, x, key):
    return run(variables, x, train, key if train else None).stats

  flat = jaxprs.flattened(stats)
  traced = jax.make_jaxpr(flat)(variables, _images(spec), jax.random.key(0))
  return not set(_atoms(traced.jaxpr.outvars)) <= set(traced.jaxpr.invars)


def _atoms(atoms) -> list[Any]:
  """Returns what can be compared: variables, and constants by their text."""
  return [str(a) if isinstance(a, core.Literal) else a for a in atoms]


def _images(spec: base.Spec) -> jax.ShapeDtypeStruct:
  # Two images: BatchNorm may see a single pixel of each.
  return jax.ShapeDtypeStruct((2, *spec.image_shape), jnp.float32)
