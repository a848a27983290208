"""Squared norm: pixels are near the mean of the normalised image space.

  L2(x) = mean over (B, H, W, C) of x^2

of the normalised image. Yin et al., See through Gradients, CVPR 2021,
arXiv 2104.07586, R_l2 (there as a norm; here the mean square, so that its
weight does not depend on the image size).
"""

import jax.numpy as jnp

from giajax import world as worlds
from giajax.models import base as models
from giajax.priors import base


def l2(world: worlds.World) -> base.Term:
  """The pixels of the normalised image are near 0.

  Args:
    world: the attacker's picture of the system, for the normalisation.
  """
  spec = world.net.spec

  def value(key, batch, aux, obs):
    del key, aux, obs
    return jnp.mean(jnp.square(models.normalise(batch.x, spec)))

  return base.Term(value)
