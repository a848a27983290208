"""Features: the classifier's gradient holds the image's own features.

For one image, the gradient of row k of a linear classifier z = W h + b is
dL/dW_k = (dL/db_k) h, so that h = dL/dW_k / dL/db_k. In a batch the ratio of
the label's row is the image's features plus what the others leave there, the
less the smaller their probability of that class.

  F(x) = mean over B and features of (h(x_i) - dL/dW_y / dL/db_y)^2, y = y_i

A regulariser of breaching, the framework of Geiping et al. (2021-2022); a
label whose bias has no gradient is compared with 0, as there.
"""

import jax.numpy as jnp

from giajax import trees
from giajax import world as worlds
from giajax.models import inspect
from giajax.priors import base


def features(world: worlds.World) -> base.Term:
  """The classifier's input is what its gradient says.

  Args:
    world: the attacker's picture of network and client.

  Raises:
    ValueError: a network without a classifier, or one whose bias the client
      does not train.
  """
  head = inspect.head(world.net)
  if not inspect.has_bias(world.net, head):
    raise ValueError(
      f'Expected an update of the bias of {head!r} for features; got none of '
      f'{world.net.spec.name}; choose another prior'
    )
  tap = f'{head}.input'

  def value(key, batch, aux, obs):
    del key
    leaves = trees.named_leaves(world.client.as_gradient(obs.update.delta))
    labels = world.task.harden(batch.y)
    rows = leaves[f'{head}.kernel'].T[labels]
    slopes = leaves[f'{head}.bias'][labels][:, None]
    silent = slopes == 0
    wanted = jnp.where(silent, 0.0, rows / jnp.where(silent, 1.0, slopes))
    return jnp.mean(jnp.square(aux.taps[tap] - wanted))

  return base.Term(value, (tap,))
