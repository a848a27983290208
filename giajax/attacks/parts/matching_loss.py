"""The matching loss, for any loss function: no Net, no flax, no config."""

from collections.abc import Callable
from typing import Any

import jax

from giajax import require
from giajax import types
from giajax.attacks.parts import distances
from giajax.ops import lowered


def matching_loss(
  loss_fn: Callable[[Any, Any], types.Array],
  distance: str | distances.Distance = 'cosine',
) -> Callable[[Any, Any, Any], types.Array]:
  """Returns how far the gradient at a candidate is from an observed one.

  Args:
    loss_fn: `(params, batch) -> [] loss`, any pytrees; all leaves of params
      are floating arrays. Its convolutions are lowered as those of giajax are
      (`ops.lowered`), whose second derivatives are fast.
    distance: a name in `DISTANCES` or a Distance.

  Returns:
    `loss(params, batch, target) -> [] float32`, where `target` is like
    params. Pure: jit it, vmap it over candidates, differentiate it.

  Raises:
    ValueError: an unknown distance; while `loss` is traced, a target of
      another structure or other shapes than params.
  """
  chosen = distances.lookup(distance)

  def loss(params: Any, batch: Any, target: Any) -> types.Array:
    require.same_shapes(
      target,
      params,
      'target',
      of='params',
      advice='pass the gradient to the same params',
    )
    own = lowered.lowered(lambda params: loss_fn(params, batch))
    return chosen.on_gradients(jax.grad(own)(params), target)

  return loss
