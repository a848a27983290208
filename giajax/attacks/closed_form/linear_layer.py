"""Closed form: the input of a linear layer is a ratio of its gradients.

For z = W x + b, one image and any loss,

  (1)  dL/dW_i = (dL/dz_i) x    dL/db_i = dL/dz_i

so x = dL/dW_i / dL/db_i for every unit i that the image reached. Phong et al.,
Privacy-Preserving Deep Learning: Revisited and Enhanced, ATIS 2017; Geiping et
al. 2020, arXiv 2003.14053, proposition 3.1.

Assumed known: the model, and that the batch has one image. All units are
combined by least squares,

  (2)  x = sum_i (db_i dW_i) / sum_i db_i^2

An image that reached no unit does not come back. The label comes from the last
layer (`labels.idlg`).

Differs from the references, which use the gradients of a single unit.
"""

import functools

import jax
import jax.numpy as jnp

from giajax import require
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import compose
from giajax.attacks.parts import image_vectors
from giajax.attacks.parts import labels
from giajax.models import inspect

_EXACT = jax.lax.Precision.HIGHEST
_TINY = 1e-30


def linear_layer(world: worlds.World) -> base.Attack:
  """The image as a ratio of the first linear layer's gradients; exact.

  Args:
    world: the attacker's picture of the system, with batch_size 1 and a
      network whose first layer is linear with a bias.

  Raises:
    ValueError: a batch of more than one image, or another first layer.
  """
  require.batch_of_one(
    world, 'linear_layer', advice='lower it: larger ones mix in the ratio'
  )
  first = inspect.first_linear(world.net)
  order = inspect.pixel_order(world.net, first)
  read = functools.partial(_read, world, first, order)
  attack = base.closed_form(read, needs={'model', 'batch_size', 'labels'})
  return compose.with_labels(attack, labels.of_one_image(world))


def _read(world, first, order, obs):
  kernel, bias = base.kernel_and_bias(obs.update.delta, first)
  reached = jnp.vdot(bias, bias, precision=_EXACT)
  flat = jnp.dot(kernel, bias, precision=_EXACT)  # (2)
  flat /= jnp.maximum(reached, _TINY)
  x = image_vectors.to_pixels(flat, world.net.spec, order)
  # The gradient (1) is a product of rank one, matched up to rounding.
  residual = kernel - flat[:, None] * bias
  score = jnp.vdot(residual, residual)
  score /= jnp.maximum(jnp.vdot(kernel, kernel), _TINY)
  batch = types.Batch(jnp.clip(x, 0.0, 1.0)[None], obs.side['labels'])
  return types.Reconstruction(batch, (reached > 0)[None], score)
