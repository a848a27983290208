"""CI-Net: a convolutional network with more parameters than unknown pixels.

Zhang, Zhang, Chen, Zhang, Sun and Liu, Generative Gradient Inversion via
Over-Parameterized Networks in Federated Learning, ICCV 2023.

A transposed convolution makes 4 x 4 features of a latent. At this side, and at
each one that is doubled from there, two 3 x 3 convolutions with spectral norm
follow, each with BatchNorm and LeakyReLU; a 1 x 1 convolution makes the image.
Attribute names are those of the authors' code.

Differs from the authors' code: images are in [0, 1], and theirs in [-1, 1] for
data in [0, 1]; sides that are not powers of two start from 5, 6 or 7; at 64
pixels, where their code fails, the last layer reads the channels that there
are; any number of colours.
"""

import functools

from flax import nnx
import jax

from giajax import registry
from giajax import require
from giajax.generative import base
from giajax.models import layers
from giajax.models.parts import norms
from giajax.models.parts import spectral

_LATENT = 128  # the authors' number
_LEAST, _MOST = 32, 4096  # channels that the rule gives
_act = functools.partial(jax.nn.leaky_relu, negative_slope=0.1)


class Block(nnx.Module):
  """Two convolutions with spectral norm, BatchNorm and LeakyReLU."""

  def __init__(self, inputs, outputs, *, rngs):
    parts = []
    for i in (inputs, outputs):
      parts += [spectral.SpectralConv(i, outputs, 3, 1, 1, rngs=rngs)]
      parts += [norms.BatchNorm(outputs, rngs=rngs), _act]
    self.conv = layers.Sequential(parts)

  def __call__(self, x):
    """Maps [M, H, W, C] to [M, H, W, P]."""
    return self.conv(x)


class CINet(nnx.Module):
  """A transposed convolution, a block at each side, and a 1 x 1 convolution."""

  def __init__(self, latent, sides, channels, width, head, *, rngs):
    self.sides, self.head = tuple(sides), head
    self.input_layer = layers.Sequential(
      [
        layers.ConvTranspose(latent, width, sides[0], rngs=rngs),
        norms.BatchNorm(width, rngs=rngs),
        _act,
      ]
    )
    inputs = width
    for side in sides:
      outputs = max(1, width // _share(side))
      block = Block(inputs, outputs, rngs=rngs)
      setattr(self, f'progression_{side}', block)
      inputs = outputs
    conv = layers.Conv(inputs, channels, 1, rngs=rngs)
    setattr(self, f'to_rgb_{sides[-1]}', conv)

  def stages(self, y):
    """Returns the stages: the input layer, a block at each side, the image."""
    del y
    named = {'input_layer': base.in_turn(base.as_pixel, self.input_layer)}
    for side in self.sides:
      name = f'progression_{side}'
      block = getattr(self, name)
      first = side == self.sides[0]
      named[name] = block if first else base.in_turn(base.doubled, block)
    name = f'to_rgb_{self.sides[-1]}'
    return {**named, name: base.in_turn(getattr(self, name), self.head)}


def ci_net(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  *,
  batch_size: int = 1,
  latent: int = _LATENT,
  width: int = 0,
  head: str = 'tanh',
  lowering: str = 'auto',
) -> base.Generator:
  """A convolutional network with more parameters than unknown pixels.

  Args:
    image_shape: (H, W, C); square, see `base.sides`.
    batch_size: the number B of images that it is to make, for the width.
    latent: the number of latent numbers, drawn from N(0, 1).
    width: the number of channels; 0 for the authors' rule, `rule`.
    head: a name in `base.HEADS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: a size out of range, images of another form, or an unknown head.
  """
  base.check_width(latent, 'latent')
  act = registry.lookup(base.HEADS, head, 'head')
  sides = base.sides(image_shape, 'ci_net')
  require.whole(batch_size, 'batch_size')
  if width != 0:
    base.check_width(width, 'width')
  chosen = width or rule(image_shape, batch_size)
  return base.from_module(
    lambda rngs: CINet(latent, sides, image_shape[2], chosen, act, rngs=rngs),
    base.Spec('ci_net', (latent,), tuple(image_shape)),
    lowering,
  )


def rule(image_shape: tuple[int, int, int], batch_size: int) -> int:
  """Returns the width that the authors' code chooses.

  It is 32, doubled until a network for 32 x 32 pixels has more than 4 B H W
  parameters, whatever the size and the colours of the images.

  Args:
    image_shape: (H, W, C).
    batch_size: B.
  """
  h, w, _ = image_shape
  width = _LEAST
  while parameters(width) <= 4 * batch_size * h * w and width < _MOST:
    width *= 2
  return width


def parameters(width: int) -> int:
  """Returns how many a network for 32 x 32 pixels in colour has."""
  first = 16 * _LATENT * width + 3 * width
  return first + 8 * (9 * width**2 + 3 * width) + 3 * width + 3


def _share(side: int) -> int:
  """Returns by what the channels at a side are divided."""
  return 1 if side < 64 else 2 if side < 128 else 4
