"""Least squares by conjugate gradients, of a system that forms no matrix."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from giajax import trees
from giajax import types

_TINY = 1e-30
# Relative to the start; the accuracy of the normal equations in float32.
_TOLERANCE = 1e-7


class LinearSystem(NamedTuple):
  """A linear system A x = b.

  Attributes:
    apply: `x -> A x`, a tree of arrays.
    transpose: `rows -> A' rows`, for a tree like the result of `apply`.
    right: b, such a tree.
  """

  apply: Callable[[types.Array], Any]
  transpose: Callable[[Any], types.Array]
  right: Any


def solve(
  system: LinearSystem, iterations: int
) -> tuple[types.Array, types.Array]:
  """Returns the least-squares solution and its relative residual, squared.

  Hestenes and Stiefel, Methods of Conjugate Gradients for Solving Linear
  Systems, 1952, section 10: on the normal equations, with the residual of the
  system itself carried along. It starts at zero, so the result is the shortest
  of all solutions.

  Args:
    system: the system A x = b.
    iterations: the largest number of iterations.

  Returns:
    x, and |A x - b|^2 / |b|^2, [].
  """
  first = system.transpose(system.right)
  start = jnp.vdot(first, first)

  def goes_on(carry):
    i, *_, squared = carry
    return (i < iterations) & (squared > _TOLERANCE**2 * start)

  def step(carry):
    i, x, residual, direction, squared = carry
    change = system.apply(direction)
    length = squared / jnp.maximum(trees.squared_norm(change), _TINY)
    residual = jax.tree.map(lambda r, c: r - length * c, residual, change)
    descent = system.transpose(residual)
    now = jnp.vdot(descent, descent)
    ahead = descent + now / squared * direction
    return i + 1, x + length * direction, residual, ahead, now

  carry = (jnp.int32(0), jnp.zeros_like(first), system.right, first, start)
  _, x, residual, _, _ = jax.lax.while_loop(goes_on, step, carry)
  whole = jnp.maximum(trees.squared_norm(system.right), _TINY)
  return x, trees.squared_norm(residual) / whole
