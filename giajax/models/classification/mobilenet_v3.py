"""MobileNetV3, small and large: searched blocks, gates, hard activations.

Howard et al., Searching for MobileNetV3, ICCV 2019, arXiv 1905.02244.
Attribute names are those of torchvision (`features.1.block.0.0`), with its
BatchNorm (epsilon 1e-3, momentum 0.01) and, as there, a linear layer for the
last convolution after the pool and 1280 or 1024 features of it.

The CIFAR form, which torchvision does not have, has a stem of stride 1, so that
a side is divided by 16 and not by 32.
"""

from collections.abc import Callable, Sequence
import functools
from typing import NamedTuple

from flax import nnx
import jax

from giajax import registry
from giajax import types
from giajax.models import base
from giajax.models import dimensions
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models.parts import blocks
from giajax.models.parts import initializers
from giajax.models.parts import norms
from giajax.models.parts import pools


class Row(NamedTuple):
  """A block, as in the paper's tables 1 and 2."""

  size: int  # the side of the depthwise kernel
  hidden: int
  outputs: int
  gated: bool
  hard: bool  # hardswish, and not ReLU
  stride: int


_SMALL = (
  Row(3, 16, 16, True, False, 2),
  Row(3, 72, 24, False, False, 2),
  Row(3, 88, 24, False, False, 1),
  Row(5, 96, 40, True, True, 2),
  Row(5, 240, 40, True, True, 1),
  Row(5, 240, 40, True, True, 1),
  Row(5, 120, 48, True, True, 1),
  Row(5, 144, 48, True, True, 1),
  Row(5, 288, 96, True, True, 2),
  Row(5, 576, 96, True, True, 1),
  Row(5, 576, 96, True, True, 1),
)
_LARGE = (
  Row(3, 16, 16, False, False, 1),
  Row(3, 64, 24, False, False, 2),
  Row(3, 72, 24, False, False, 1),
  Row(5, 72, 40, True, False, 2),
  Row(5, 120, 40, True, False, 1),
  Row(5, 120, 40, True, False, 1),
  Row(3, 240, 80, False, True, 2),
  Row(3, 200, 80, False, True, 1),
  Row(3, 184, 80, False, True, 1),
  Row(3, 184, 80, False, True, 1),
  Row(3, 480, 112, True, True, 1),
  Row(3, 672, 112, True, True, 1),
  Row(5, 672, 160, True, True, 2),
  Row(5, 960, 160, True, True, 1),
  Row(5, 960, 160, True, True, 1),
)
# Rows, and features after the pool.
_SIZES = {'small': (_SMALL, 1024), 'large': (_LARGE, 1280)}
_STEM = 16  # channels
_REDUCTIONS = {'cifar': 16, 'imagenet': 32}


class InvertedResidual(nnx.Module):
  """Widen, mix neighbours, gate, narrow; plus the input."""

  def __init__(self, inputs, row, activation, *, norm, rngs):
    gate = None
    if row.gated:
      gate = blocks.SqueezeExcitation(
        row.hidden,
        blocks.divisible(row.hidden // 4),
        activation(False),
        jax.nn.hard_sigmoid,
        rngs=rngs,
      )
    self.block = blocks.inverted(
      inputs,
      row.hidden,
      row.outputs,
      row.size,
      row.stride,
      gate,
      norm=norm,
      activation=activation(row.hard),
      rngs=rngs,
    )
    self.skip = row.stride == 1 and inputs == row.outputs

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, inputs] to [B, H', W', outputs]."""
    y = self.block(x)
    return layers.residual(x, y) if self.skip else y


class MobileNetV3(nnx.Module):
  """A stem, the blocks, a last 1x1 convolution and two linear layers."""

  def __init__(
    self,
    channels: int,
    classes: int,
    rows: Sequence[Row],
    sizes: tuple[int, int],
    stride: int,
    dropout: float,
    activation: Callable[[bool], Callable[..., types.Array]],
    *,
    norm: Callable[..., nnx.Module],
    rngs: nnx.Rngs,
  ):
    hard = activation(True)
    kinds = dict(norm=norm, activation=hard, rngs=rngs)
    inputs, last = sizes
    features: list[nnx.Module] = [
      blocks.conv_norm(channels, inputs, 3, stride, **kinds)
    ]
    for row in rows:
      features.append(
        InvertedResidual(inputs, row, activation, norm=norm, rngs=rngs)
      )
      inputs = row.outputs
    features.append(blocks.conv_norm(inputs, 6 * inputs, 1, **kinds))
    self.features = layers.Sequential(features)
    linear = functools.partial(
      layers.Linear, init=initializers.normal(0.01), rngs=rngs
    )
    self.classifier = layers.Sequential(
      [
        blocks.unbiased(linear(6 * inputs, last)),
        hard,
        layers.Dropout(dropout),
        blocks.unbiased(linear(last, classes)),
      ]
    )

  def __call__(self, x: types.Array) -> types.Array:
    """Maps normalised images [B, H, W, C] to logits [B, K]."""
    return self.classifier(pools.global_average_pool(self.features(x)))


def mobilenet_v3(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  *,
  size: str = 'large',
  width: float = 1.0,
  depth: int | None = None,
  stem: str | None = None,
  norm: str = 'batch',
  activation: str | None = None,
  dropout: float = 0.2,
  normalisation: str = 'imagenet',
  lowering: str = 'auto',
) -> base.Net:
  """MobileNetV3 of any width, in the ImageNet or the CIFAR form.

  Args:
    image_shape: (H, W, C).
    num_classes: size of the last layer.
    size: 'small' or 'large'.
    width: factor of the channels, which stay multiples of 8.
    depth: the number of blocks, of 11 or 15, that are kept from the first; all
      if None.
    stem: 'cifar' (stride 1) or 'imagenet' (stride 2); by image size if None.
    norm: a name in `norms.NORMS`; convolutions have no bias with any of them.
    activation: a name in `layers.ACTIVATIONS` in place of both ReLU and
      hardswish; the gates remain hardsigmoid.
    dropout: rate in front of the last layer.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: an unknown size, stem, norm, activation or normalisation; a
      factor that is not above 0, a depth that the size does not have, a rate
      outside [0, 1); or an image side below 16 (CIFAR form) or 32.
  """
  rows, last = registry.lookup(_SIZES, size, 'size')
  spec = base.make_spec(
    f'mobilenet_v3_{size}', image_shape, num_classes, normalisation
  )
  blocks.require_factor(width=width)
  stem = dimensions.image_form(image_shape, stem)
  dimensions.require_size(image_shape, _REDUCTIONS[stem])
  small = stem == 'cifar'
  make = functools.partial(
    MobileNetV3,
    image_shape[2],
    num_classes,
    [_scaled(row, width) for row in blocks.leading(rows, depth)],
    (blocks.divisible(_STEM * width), blocks.divisible(last * width)),
    1 if small else 2,
    dropout,
    _activations(activation),
    norm=norms.factory(norm, momentum=0.01, epsilon=1e-3),
  )
  return from_nnx.from_nnx(lambda rngs: make(rngs=rngs), spec, lowering)


def _scaled(row: Row, width: float) -> Row:
  return row._replace(
    hidden=blocks.divisible(row.hidden * width),
    outputs=blocks.divisible(row.outputs * width),
  )


def _activations(name: str | None):
  """Returns the function of `hard` that names a block's activation."""
  if name is not None:
    act = blocks.activation(name)
    return lambda hard: act
  return lambda hard: jax.nn.hard_swish if hard else jax.nn.relu
