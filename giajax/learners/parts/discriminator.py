"""A discriminator with spectral norms, which may read the class as well.

Miyato, Kataoka, Koyama and Yoshida, Spectral Normalization for Generative
Adversarial Networks, ICLR 2018, arXiv 1802.05957, for the layers; Miyato and
Koyama, cGANs with Projection Discriminator, ICLR 2018, arXiv 1802.05637, for
the class y, which enters by an inner product with the features h:

  D(x, y) = w . h(x) + b + V_y . h(x)
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp

from giajax import types
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models.parts import spectral

_SLOPE = 0.1  # of the leaky ReLU


class Discriminator(NamedTuple):
  """A network that tells real images from others, as pure functions.

  Attributes:
    init: `(key) -> Variables`; the key is consumed.
    apply: `(variables, x [M, H, W, C] in [0, 1], y [M], train) -> (scores [M],
      stats)`, high for real images. A training pass takes one power iteration
      in each spectral norm. `y` is not read where there are no classes.
  """

  init: Callable[[types.Array], types.Variables]
  apply: Callable[..., tuple[types.Array, types.Tree]]


class Module(nnx.Module):
  """Pairs of convolutions, the second of which halves the side."""

  def __init__(self, channels, width, halvings, classes, *, rngs):
    conv = functools.partial(spectral.SpectralConv, rngs=rngs)
    linear = functools.partial(spectral.SpectralLinear, rngs=rngs)
    self.convs, inputs = nnx.List(), channels
    for i in range(halvings):
      outputs = width * 2**i
      self.convs.append(conv(inputs, outputs, 3, 1, 1))
      self.convs.append(conv(outputs, 2 * outputs, 4, 2, 1))
      inputs = 2 * outputs
    self.last = conv(inputs, inputs, 3, 1, 1)
    self.fc = linear(inputs, 1)
    self.classes = linear(inputs, classes, bias=False) if classes else None

  def __call__(self, x: types.Array, y: types.Array) -> types.Array:
    """Maps images [M, H, W, C] and classes [M] to scores [M]."""
    h = 2 * x - 1
    for conv in (*self.convs, self.last):
      h = jax.nn.leaky_relu(conv(h), _SLOPE)
    h = h.sum(axis=(1, 2))
    score = self.fc(h)[:, 0]
    if self.classes is None:
      return score
    own = jnp.take_along_axis(self.classes(h), y[:, None], axis=1)
    return score + own[:, 0]


def discriminator(
  image_shape: tuple[int, int, int], classes: int, *, width: int
) -> Discriminator:
  """Returns an untrained discriminator.

  Args:
    image_shape: (H, W, C).
    classes: the number of classes K, 0 for none.
    width: the number of channels behind the first layer; they double where the
      side is halved, which is done down to a side of less than 8.
  """
  halvings, side = 1, min(image_shape[:2]) // 2
  while side >= 8:
    halvings, side = halvings + 1, side // 2
  functions = from_nnx.pure(
    lambda rngs: Module(image_shape[2], width, halvings, classes, rngs=rngs),
    'discriminator',
  )

  def apply(variables, x, y, train):
    context = layers.Context(train, 'lax')
    return functions.run(variables, context, lambda module: module(x, y))

  return Discriminator(functions.init, apply)
