"""Functions that are read again, equation by equation."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax.extend import core

from giajax import types

Values = Sequence[types.Array]
# `(params, operands, original) -> values`: what an equation of these params is
# on these operands; `original` is the equation as a function of them.
Rule = Callable[[Mapping[str, Any], Values, Callable[..., Values]], Values]
# The primitives that call a function as it is.
JITS = ('jit',)


def reread(
  fn: Callable[..., types.Tree],
  find: Callable[[core.JaxprEqn], Rule | None],
) -> Callable[..., types.Tree]:
  """Returns a function that is evaluated by other rules.

  Args:
    fn: a function of pytrees of arrays.
    find: the rule of an equation, None for its own.
  """

  def wrapped(*args):
    closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
    values = evaluate(closed, jax.tree.leaves(args), find)
    return jax.tree.unflatten(jax.tree.structure(shapes), values)

  return wrapped


def evaluate(
  closed: core.ClosedJaxpr,
  args: Values,
  find: Callable[[core.JaxprEqn], Rule | None],
) -> Values:
  """Returns the values of a jaxpr by other rules, see `reread`."""
  jaxpr = closed.jaxpr
  known = dict(zip(jaxpr.constvars, closed.consts))
  known |= zip(jaxpr.invars, args)

  def read(atom):
    return atom.val if isinstance(atom, core.Literal) else known[atom]

  for run, rule in _runs(jaxpr.eqns, find):
    outputs = [v for eqn in run for v in eqn.outvars]
    names, original = _function(jaxpr, run, outputs)
    if rule:
      (eqn,) = run
      operands = [read(atom) for atom in eqn.invars]
      values = rule(eqn.params, operands, _of_operands(eqn, original))
    else:
      values = original(*map(read, names))
    known |= zip(outputs, values)
  return [read(atom) for atom in jaxpr.outvars]


def inlined(fn: Callable[..., types.Tree]) -> Callable[..., types.Tree]:
  """Returns a function without jitted functions and constants to compute.

  In a scan, JAX mixes up what the rules of `custom_vjp` save for the second
  derivative if they compute something that depends on no argument, as `jnp.pad`
  and `jnp.eye` do (0.10.2 to 0.12.0). Here, that is computed beforehand.

  Args:
    fn: a function of pytrees of arrays.
  """

  def compute(params, operands, original):
    del params
    with jax.ensure_compile_time_eval():
      return original(*operands)

  def constant(eqn):
    # What was computed beforehand is no variable of the second reading.
    given = all(isinstance(atom, core.Literal) for atom in eqn.invars)
    return compute if given else None

  find = _entering(JITS, constant)
  return reread(reread(fn, find), find)


def flattened(fn: Callable[..., types.Tree]) -> Callable[..., types.Tree]:
  """Returns a function without calls, for looking at its jaxpr.

  Args:
    fn: a function of pytrees of arrays.
  """
  return reread(fn, _entering((*JITS, 'remat2'), lambda eqn: None))


def _entering(names, otherwise):
  """Returns `find` that evaluates the jaxprs of some primitives in place."""

  def call(params, operands, original):
    del original
    inner = params['jaxpr']
    closed = inner if hasattr(inner, 'consts') else core.ClosedJaxpr(inner, ())
    return evaluate(closed, operands, find)

  def find(eqn):
    return call if eqn.primitive.name in names else otherwise(eqn)

  return find


def _runs(
  eqns: Iterable[core.JaxprEqn],
  find: Callable[[core.JaxprEqn], Rule | None],
) -> Iterator[tuple[list[core.JaxprEqn], Rule | None]]:
  """Yields single equations with a rule, and runs of others without one."""
  waiting: list[core.JaxprEqn] = []
  for eqn in eqns:
    rule = find(eqn)
    if rule is None:
      waiting.append(eqn)
      continue
    if waiting:
      yield waiting, None
      waiting = []
    yield [eqn], rule
  if waiting:
    yield waiting, None


def _function(jaxpr, eqns, outputs):
  """Returns the inputs of some equations, and these as a function of them."""
  inner = {*outputs}
  used = (
    atom
    for eqn in eqns
    for atom in eqn.invars
    if not isinstance(atom, core.Literal) and atom not in inner
  )
  names = [*dict.fromkeys(used)]
  part = jaxpr.replace(
    constvars=[], invars=names, outvars=outputs, eqns=[*eqns]
  )
  return names, core.jaxpr_as_fun(core.ClosedJaxpr(part, ()))


def _of_operands(eqn, original):
  """Returns the function of an equation's operands, literals among them."""

  def of_operands(*operands):
    given = {
      atom: operand
      for atom, operand in zip(eqn.invars, operands)
      if not isinstance(atom, core.Literal)
    }
    return original(*given.values())

  return of_operands
