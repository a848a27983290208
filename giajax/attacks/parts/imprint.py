"""The imprint layer, in which every unit keeps the images of one bin apart.

Fowl et al., Robbing the Fed: Directly Obtaining Private Data in Federated
Learning with Modified Models, ICLR 2022, arXiv 2110.13057. In front of the
network the server puts

  (1)  z_i = w_i . x + b_i
  (2)  a_i = relu(z_i)  or  clip(z_i / c, 0, 1)
  (3)  x'  = V a + e

with k units over the d values of an image: 2 d k + k + d parameters. While z_i
is in the open range of the activation, an image x reaches w_i and b_i in the
proportion

  (4)  dL/dw_i = dL/db_i x

so a unit that only one image of the batch reached gives that image away. With
w_i = w, a measurement h(x) = w . x, and biases at the quantiles of h, every
image falls into one of k bins of equal mass (`measurements`).

`robbing_the_fed` and `loki` are attacks on this layer.
"""

from collections.abc import Callable
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from giajax import require
from giajax import types
from giajax import world as worlds
from giajax.attacks.parts import image_vectors
from giajax.attacks.parts import measurements
from giajax.models import base as models
from giajax.models import layers
from giajax.models.parts import initializers


class Front(layers.Layer):
  """A linear layer, an activation, bounded or not, and a linear layer.

  Args:
    inputs: the number of values that it reads.
    image_shape: (H, W, C) of what it returns.
    bins: the number of units k in between.
    ceiling: the c of (2); None for ReLU.
    fresh: whether its weights are drawn as torch draws them; otherwise they are
      zeros, which the server replaces.
    rngs: the source of the initial weights.
  """

  def __init__(
    self,
    inputs: int,
    image_shape: tuple[int, int, int],
    bins: int,
    ceiling: float | None,
    *,
    fresh: bool = False,
    rngs: Any,
  ):
    # Drawing them takes seconds at 224 pixels.
    init = None if fresh else initializers.zeros
    self.first = layers.Linear(
      inputs, bins, init=init, bias_init=init, rngs=rngs
    )
    self.second = layers.Linear(
      bins, math.prod(image_shape), init=init, bias_init=init, rngs=rngs
    )
    self.image_shape = image_shape
    self.ceiling = ceiling

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H', W', C'] to normalised images [B, H, W, C]."""
    z = self.first(layers.flatten(x))
    if self.ceiling is None:
      a = jax.nn.relu(z)
    else:
      a = jnp.clip(z / self.ceiling, 0, 1)
    return image_vectors.to_image(self.second(a), self.image_shape)


def insert(
  make: Callable[..., layers.Layer],
) -> Callable[[models.Net], models.Net]:
  """Returns a function that puts `make(rngs=rngs)` in front of a network."""

  def change(module, rngs):
    setattr(module, models.FRONT, make(rngs=rngs))

  return lambda net: net.edit(change)  # pyrefly: ignore


def grey_levels(activations: np.ndarray) -> tuple[float, float]:
  """Returns the entries of V and e in (3) with which the network still works.

  The network after the layer reads grey images whose level has mean 0 and
  variance 1, as normalised images have.

  Args:
    activations: the activations of all units for n equally likely measurements,
      [k, n].
  """
  total = activations.sum(0)
  spread = max(float(total.std()), 1e-6)
  return 1 / spread, -float(total.mean()) / spread


def check(
  world: worlds.World,
  who: str,
  *,
  bins: int,
  images: int,
  law: str,
  location: float | None,
  scale: float | None,
) -> None:
  """Raises ValueError for arguments that no imprint attack can work with.

  Args:
    world: the attacker's picture of the system; its network must take a layer
      in front.
    who: the name of the attack.
    bins: the number of bins k.
    images: the number of images that should fall into bins of their own.
    law: see `measurements.check`.
    location: see `measurements.check`.
    scale: see `measurements.check`.
  """
  if world.net.edit is None:
    raise ValueError(
      'Expected a flax.nnx module that is trained as a whole for '
      f'{who}, which puts a layer in front; got {world.net.spec.name}; build '
      'it by from_nnx, or leave trainable out'
    )
  require.whole(
    bins,
    'bins',
    least=max(2, images),
    most=require.LARGEST_WHOLE // math.prod(world.net.spec.image_shape),
    advice=f'take at least one bin for each of {images} images',
  )
  measurements.check(law, location, scale)
