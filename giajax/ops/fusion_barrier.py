"""Values that no fusion recomputes.

XLA's fusion on CPU duplicates an elementwise producer into all of its
consumers. Along a chain of residual additions every block then adds up all the
blocks before it again. A value that a loop returns is computed once.
"""

import jax
from jax import lax

from giajax import types


@jax.custom_vjp
def fusion_barrier(x: types.Array) -> types.Array:
  """Returns x, and makes it and its derivatives exist in memory on a CPU."""
  if jax.default_backend() != 'cpu' or not x.size:
    return x
  origin = (0,) * x.ndim

  def negate(_, x):
    first = lax.slice(x, origin, (1,) * x.ndim)
    return lax.dynamic_update_slice(x, -first, origin)

  return lax.fori_loop(0, 2, negate, x)  # twice: the identity


def _forward(x):
  return fusion_barrier(x), None


def _backward(_, cotangent):
  return (fusion_barrier(cotangent),)


fusion_barrier.defvjp(_forward, _backward)
