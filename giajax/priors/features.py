"""Features: the classifier's gradient holds the image's own features.

For one image, the gradient of row k of a linear classifier z = W h + b is
dL/dW_k = (dL/db_k) h, so that h = dL/dW_k / dL/db_k. In a batch the ratio of
the label's row is the image's features plus what the other images leave there,
which is the less, the smaller their probability of that class is.

  F(x) = mean over B and features of (h(x_i) - dL/dW_y / dL/db_y)^2, y = y_i

A regulariser of breaching, the framework of Geiping et al. (2021-2022); a
label whose bias has no gradient is compared with 0, as in that framework.
"""

import jax.numpy as jnp

from giajax import require
from giajax import trees
from giajax import world as worlds
from giajax.models import inspect
from giajax.priors import base

_INSTEAD = 'choose another prior'


def features(world: worlds.World) -> base.Term:
  """The classifier's input agrees with what its gradient reveals.

  Args:
    world: the attacker's picture of the network and the client.

  Raises:
    ValueError: another task, a network without a linear classifier, or an
      update that does not cover its kernel and bias.
  """
  require.exclusive_classes(world, 'features', advice=_INSTEAD)
  require.classifier_kernel(world.net, 'features', advice=_INSTEAD)
  require.classifier_bias(world.net, 'features', advice=_INSTEAD)
  path = inspect.classifier(world.net)
  tap = f'{path}.input'

  def value(key, batch, aux, obs):
    del key
    leaves = trees.named_leaves(world.client.as_gradient(obs.update.delta))
    labels = world.task.harden(batch.y)
    rows = leaves[f'{path}.kernel'].T[labels]
    slopes = leaves[f'{path}.bias'][labels][:, None]
    silent = slopes == 0
    target = jnp.where(silent, 0.0, rows / jnp.where(silent, 1.0, slopes))
    return jnp.mean(jnp.square(aux.taps[tap] - target))

  return base.Term(value, (tap,))
