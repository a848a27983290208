"""Group consistency: restarts agree with their mean.

  C(x_r) = mean over (B, H, W, C) of (x_r - mean over restarts of x)^2

of the normalised image; no derivative is taken through the mean. Yin et al.,
See through Gradients, CVPR 2021, arXiv 2104.07586, R_group (there as a norm;
here the mean square, as in `l2`). Candidates are compared as they are: the
images of two restarts are not registered, and those of equal labels may be in
another order.
"""

import jax
import jax.numpy as jnp

from giajax import world as worlds
from giajax.models import base as models
from giajax.priors import base


def group_consistency(world: worlds.World) -> base.Term:
  """Restarts agree with their mean; they run together.

  Args:
    world: the attacker's picture of the system, for the normalisation.
  """
  spec = world.net.spec

  def value(key, batch, aux, obs):
    del key, aux, obs
    x = models.normalise(batch.x, spec)
    mean = jax.lax.pmean(jax.lax.stop_gradient(x), worlds.RESTARTS)
    return jnp.mean(jnp.square(x - mean))

  return base.Term(value, group=True)
