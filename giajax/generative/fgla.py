"""FGLA: a convolutional decoder from a network's features to the image.

Xue, Hu, Zhao, Wang and Feng, Fast Generation-Based Gradient Leakage Attacks
against Highly Compressed Gradients, INFOCOM 2023.

The latent of an image is what the classifier reads of it. A map of features
with its places is kept as a map; of other features, a linear layer makes one of
4 x 4 or more. Each stage doubles the side by a transposed convolution with
LeakyReLU, and residual blocks of two convolutions with BatchNorm follow; a 1 x
1 convolution makes the image. The weights fit the one network whose features
they were trained on.

Differs from the authors' code: kernels of 4 x 4 in the place of 3 x 3 in the
transposed convolutions; fewer blocks by default; features without a map; any
side.
"""

import itertools

from flax import nnx
import jax

from giajax import require
from giajax import types
from giajax.generative import base
from giajax.models import layers
from giajax.models.parts import norms

_MOST_FEATURES = 2**24
_MOST_BLOCKS = 64
_MOST_SIDE = 4096


class Block(nnx.Module):
  """Two convolutions with BatchNorm beside the identity."""

  def __init__(self, width, *, rngs):
    self.conv1 = layers.Conv(width, width, 3, 1, 1, bias=False, rngs=rngs)
    self.bn1 = norms.BatchNorm(width, rngs=rngs)
    self.conv2 = layers.Conv(width, width, 3, 1, 1, bias=False, rngs=rngs)
    self.bn2 = norms.BatchNorm(width, rngs=rngs)

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [M, H, W, C] to the same shape."""
    h = jax.nn.leaky_relu(self.bn1(self.conv1(x)))
    return x + self.bn2(self.conv2(h))


class FGLA(nnx.Module):
  """A linear layer or none, stages that double the side, and a convolution."""

  def __init__(self, features, start, doublings, channels, width, blocks, rngs):
    side, inputs = start
    widths = [width * 2**i for i in reversed(range(doublings))]
    self.start = (side, side, inputs or 2 * widths[0])
    size = side**2 * self.start[2]
    self.fc = None if inputs else layers.Linear(features, size, rngs=rngs)
    self.ups = nnx.List(
      layers.Sequential(
        [
          layers.ConvTranspose(i, o, 4, 2, 1, rngs=rngs),
          jax.nn.leaky_relu,
          *(Block(o, rngs=rngs) for _ in range(blocks)),
        ]
      )
      for i, o in itertools.pairwise([self.start[2], *widths])
    )
    self.conv = layers.Conv(width, channels, 1, rngs=rngs)

  def stages(self, y):
    """Returns the stages: a linear layer, a side each, then the image."""
    del y
    named = {f'ups.{i}': base.in_turn(up) for i, up in enumerate(self.ups)}

    def as_map(x):
      return layers.unflatten(x, self.start)

    if self.fc is None:
      named['ups.0'] = base.in_turn(as_map, self.ups[0])
    else:
      first = base.in_turn(self.fc, jax.nn.leaky_relu, as_map)
      named = {'fc': first, **named}
    return {**named, 'conv': base.in_turn(self.conv, jax.nn.sigmoid)}


def fgla(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  *,
  features: int,
  grid: int = 0,
  width: int = 64,
  blocks: int = 1,
  lowering: str = 'auto',
) -> base.Generator:
  """A convolutional decoder from a network's features to the image.

  Args:
    image_shape: (H, W, C); square, at least 8 x 8, see `base.sides`.
    features: the number D of features that the classifier reads.
    grid: the side of the map that the features are, in torch's order, if the
      network does not pool it; the side of the images is `grid`, doubled once
      or more. 0 for features without places.
    width: the number of channels in front of the last layer; each stage before
      has twice as many.
    blocks: the number of residual blocks at each side; the authors have 3.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: a size out of range, images of another form, or features that
      are no map of this side.
  """
  require.whole(features, 'features', most=_MOST_FEATURES)
  base.check_width(width, 'width')
  require.whole(blocks, 'blocks', most=_MOST_BLOCKS, advice='use 1')
  start, doublings = _start(image_shape, features, grid)
  size = features, start, doublings, image_shape[2], width, blocks
  return base.from_module(
    lambda rngs: FGLA(*size, rngs),
    base.Spec('fgla', (features,), tuple(image_shape), latents='update'),
    lowering,
  )


def _start(image_shape, features, grid):
  """Returns the first map's (side, channels), and how often it is doubled.

  The channels are 0 where a linear layer makes the map.
  """
  base.check_image_shape(image_shape, 'fgla')
  h, w, _ = image_shape
  require.whole(grid, 'grid', least=0, most=_MOST_SIDE, advice='use 0')
  if grid == 0:
    sides = base.sides(image_shape, 'fgla', least=2)
    return (sides[0], 0), len(sides) - 1
  doublings = max((h // grid).bit_length() - 1, 1)
  if h != w or h != grid * 2**doublings:
    raise ValueError(
      f'Expected square images for fgla whose side is grid={grid}, doubled '
      f'once or more; got image_shape={tuple(image_shape)}; use grid=0'
    )
  if features % grid**2:
    raise ValueError(
      f'Expected features that are maps of {grid} x {grid} for fgla; got '
      f'features={features}, grid={grid}; use grid=0'
    )
  return (grid, features // grid**2), doublings
