"""Epoch order: every epoch sees the same images, in any order.

  R(x) = 1 / E^2 sum over epochs e, f of mean (h(x_e) - h(x_f))^2

with x_e the candidate's images of epoch e and h their pixel-wise mean, which
does not change with their order. Dimitrov, Balunović, Konstantinov and Vechev,
Data Leakage in Federated Averaging, TMLR 2022, arXiv 2206.12395, the epoch
order-invariant prior with the mean for h and a squared distance.
"""

import jax.numpy as jnp

from giajax import require
from giajax import world as worlds
from giajax.models import base as models
from giajax.priors import base


def epoch_order(world: worlds.World, *, epochs: int = 1) -> base.Term:
  """The images of all epochs have the same mean; 0 for a single epoch.

  Args:
    world: the attacker's picture of the system, for the normalisation.
    epochs: the number of epochs E >= 1; the candidate holds their images one
      after the other.

  Raises:
    ValueError: fewer epochs than 1.
  """
  require.whole(epochs, 'epochs', advice='use 1')
  spec = world.net.spec

  def value(key, batch, aux, obs):
    del key, aux, obs
    x = models.normalise(batch.x, spec)
    means = x.reshape(epochs, -1, *x.shape[1:]).mean(1)
    # The mean over pairs is twice the variance over epochs.
    return 2 * jnp.mean(jnp.square(means - means.mean(0)))

  return base.Term(value)
