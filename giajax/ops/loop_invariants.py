"""Work that does not change from step to step, done once before a loop.

In every step, a scan over attack steps recomputes whatever its body derives
only from the weights and the observed gradient: flipped or transformed kernels,
norms of the target. XLA on CPU leaves such work in the loop. `precompute`
splits the body's jaxpr into a part that reads the carry and a part that does
not, and evaluates the latter once.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

# Cheaper to recompute in a fusion than to read back from memory.
_FREE = frozenset(
  ('broadcast_in_dim', 'convert_element_type', 'iota', 'reshape', 'squeeze')
)


def precompute(body: Callable[..., Any], *args: Any) -> Callable[..., Any]:
  """Returns a function equal to `body` that shares its loop-invariant work.

  Args:
    body: a pure function of `args`; what it closes over is loop-invariant.
    *args: examples of its arguments, concrete or traced.

  Returns:
    A function of the same arguments and result, to be scanned in place of
    `body`. The invariant part is computed where `precompute` is called.
  """
  closed, shape = jax.make_jaxpr(body, return_shape=True)(*args)
  treedef = jax.tree.structure(shape)
  jaxpr = closed.jaxpr
  invariant, before, inside = set(jaxpr.constvars), [], []
  for eqn in jaxpr.eqns:
    fixed = _variables(eqn.invars) <= invariant and not eqn.effects
    if fixed:
      before.append(eqn)
      invariant.update(eqn.outvars)
    if not fixed or eqn.primitive.name in _FREE:
      inside.append(eqn)
  needed = set().union(
    _variables(jaxpr.outvars), *(_variables(eqn.invars) for eqn in inside)
  )
  results = set().union(*(eqn.outvars for eqn in inside))
  frontier = [
    v
    for v in [*jaxpr.constvars, *(o for eqn in before for o in eqn.outvars)]
    if v in needed and v not in results
  ]
  values = _run(jaxpr, jaxpr.constvars, before, frontier)(*closed.consts)
  loop = _run(jaxpr, [*frontier, *jaxpr.invars], inside, jaxpr.outvars)

  def shortened(*args):
    return jax.tree.unflatten(treedef, loop(*values, *jax.tree.leaves(args)))

  return shortened


def _variables(atoms: Any) -> set[Any]:
  return {v for v in atoms if not isinstance(v, core.Literal)}


def _run(
  jaxpr: Any, inputs: Any, eqns: Any, outputs: Any
) -> Callable[..., list[Any]]:
  """Returns the function of a part of a jaxpr."""
  part = core.Jaxpr(
    (),
    inputs,
    outputs,
    eqns,
    jaxpr.effects,
    jaxpr.debug_info.with_unknown_names(),
  )
  return core.jaxpr_as_fun(core.ClosedJaxpr(part, ()))
