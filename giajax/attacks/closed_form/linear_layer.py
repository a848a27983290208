"""Closed form: the input of a linear layer is a ratio of its gradients.

For z = W x + b, one image and any loss, dL/dW_i = (dL/dz_i) x and dL/db_i =
dL/dz_i, hence x = dL/dW_i / dL/db_i for every unit i that the image reached.
Phong et al., Privacy-Preserving Deep Learning: Revisited and Enhanced, ATIS
2017; Geiping et al. 2020, arXiv 2003.14053, proposition 3.1.

Assumed known: the model, and that the batch has one image. All units are
combined by least squares, x = sum_i (db_i dW_i) / sum_i db_i^2; an image that
reached no unit is not found. The label comes from the last layer
(`labels.idlg`).
"""

import jax
import jax.numpy as jnp

from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import compose
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
  spec = world.net.spec
  if world.batch_size != 1:
    raise ValueError(
      'Expected batch_size 1 for linear_layer; got '
      f'batch_size={world.batch_size}; larger batches mix in the ratio'
    )
  first = inspect.first_linear(world.net)

  def read(obs):
    leaves = trees.named_leaves(obs.update.delta)
    kernel, bias = leaves[f'{first}.kernel'], leaves[f'{first}.bias']
    reached = jnp.vdot(bias, bias, precision=_EXACT)
    flat = jnp.dot(kernel, bias, precision=_EXACT) / jnp.maximum(reached, _TINY)
    h, w, c = spec.image_shape
    x = jnp.moveaxis(flat.reshape(c, h, w), 0, -1)
    x = x * jnp.asarray(spec.std) + jnp.asarray(spec.mean)
    # The gradient of a rank-one product is matched up to rounding.
    residual = kernel - flat[:, None] * bias
    score = jnp.vdot(residual, residual) / jnp.maximum(
      jnp.vdot(kernel, kernel), _TINY
    )
    return types.Reconstruction(
      types.Batch(jnp.clip(x, 0.0, 1.0)[None], obs.side['labels']),
      (reached > 0)[None],
      score,
    )

  attack = base.closed_form(read, needs={'model', 'batch_size', 'labels'})
  return compose.with_labels(attack, labels.idlg(world))
