"""A condition on which a branch may be skipped under vmap.

Of a `jax.lax.cond` whose condition is batched, vmap computes both branches and
selects. A branch that is right for all, and that some need, can be chosen for
all of them together: restarts and cases that run together take a step at once,
and are in the same stage.
"""

from jax import custom_batching

from giajax import types


@custom_batching.custom_vmap
def anywhere(condition: types.Array) -> types.Array:
  """Returns whether a condition, [] bool, holds in any of what is vmapped."""
  return condition


@anywhere.def_vmap
def _(size, batched, condition):
  del size, batched
  return anywhere(condition.any(axis=0)), False
