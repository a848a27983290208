"""The gradient of a layer's bias for a single image."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.clients import base as clients


def bias_gradients(
  world: worlds.World, path: str, variables: types.Variables
) -> Callable[[types.Array, Any], types.Array]:
  """Returns `(x [H, W, C], y) -> [m]`, the gradient of a bias.

  The gradient of the loss with respect to a layer's output is also that of its
  bias. The network is in inference mode.

  Args:
    world: the world of the attack.
    path: the path of a linear layer with m units.
    variables: what the client received.
  """
  net = world.net

  def probe(x, offsets):
    return net.probe(variables, x[None], offsets)  # pyrefly: ignore

  image = jnp.zeros(net.spec.image_shape)
  shapes = jax.eval_shape(lambda: probe(image, None)[2])
  zeros = {p: jnp.zeros(s.shape) for p, s in shapes.items()}

  def loss(offset, x, y):
    output, *_ = probe(x, {**zeros, path: offset})
    return clients.loss(world.task, output, trees.single(y))

  def gradient(x, y):
    return jax.grad(loss)(zeros[path], x, y)[0]

  return gradient
