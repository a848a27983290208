"""EfficientNet-B0 and EfficientNetV2-S.

Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks, ICML 2019, arXiv 1905.11946; and EfficientNetV2: Smaller Models and
Faster Training, ICML 2021, arXiv 2104.00298, whose first stages widen and mix
in one convolution. Attribute names are those of torchvision
(`features.1.0.block.0.0`), with its BatchNorm of epsilon 1e-3 in V2.

The CIFAR form, which torchvision does not have, has a stem of stride 1, so that
a side is divided by 16 and not by 32. The width factor scales V2-S as it scales
B0 to make B1 to B7; V2-S keeps its 1280 last channels.
"""

from collections.abc import Sequence
import functools
from typing import NamedTuple

from flax import nnx
import jax
import numpy as np

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
  """Blocks of one shape; only the first of them has the stride."""

  fused: bool  # widen and mix in one convolution, without a gate
  expansion: int
  size: int  # the side of the kernel
  stride: int
  outputs: int
  count: int = 1


class Variant(NamedTuple):
  """A published size."""

  stem: int  # channels
  stages: tuple[Row, ...]
  last: int | None  # channels after the stages; 4 times their own if None
  epsilon: float  # the epsilon of BatchNorm


_VARIANTS = {
  'b0': Variant(
    32,
    (
      Row(False, 1, 3, 1, 16, 1),
      Row(False, 6, 3, 2, 24, 2),
      Row(False, 6, 5, 2, 40, 2),
      Row(False, 6, 3, 2, 80, 3),
      Row(False, 6, 5, 1, 112, 3),
      Row(False, 6, 5, 2, 192, 4),
      Row(False, 6, 3, 1, 320, 1),
    ),
    None,
    1e-5,
  ),
  'v2_s': Variant(
    24,
    (
      Row(True, 1, 3, 1, 24, 2),
      Row(True, 4, 3, 2, 48, 4),
      Row(True, 4, 3, 2, 64, 4),
      Row(False, 4, 3, 2, 128, 6),
      Row(False, 6, 3, 1, 160, 9),
      Row(False, 6, 3, 2, 256, 15),
    ),
    1280,
    1e-3,
  ),
}
_REDUCTIONS = {'cifar': 16, 'imagenet': 32}


class Block(nnx.Module):
  """An inverted residual, plain or fused, which a training pass may skip."""

  def __init__(self, inputs, row, drop, *, norm, activation, rngs):
    make = _fused if row.fused else _gated
    self.block = make(
      inputs,
      blocks.divisible(inputs * row.expansion),
      row.outputs,
      row.size,
      row.stride,
      norm=norm,
      activation=activation,
      rngs=rngs,
    )
    self.skip = row.stride == 1 and inputs == row.outputs
    self.stochastic_depth = layers.Dropout(drop, rows=True)

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, inputs] to [B, H', W', outputs]."""
    y = self.block(x)
    if not self.skip:
      return y
    return layers.residual(x, self.stochastic_depth(y))


class EfficientNet(nnx.Module):
  """A stem, the stages, a last 1x1 convolution and one linear layer."""

  def __init__(
    self,
    channels: int,
    classes: int,
    stages: Sequence[Sequence[Row]],
    sizes: tuple[int, int],
    stride: int,
    rates: tuple[float, float],
    *,
    norm,
    activation,
    rngs: nnx.Rngs,
  ):
    kinds = dict(norm=norm, activation=activation, rngs=rngs)
    (inputs, last), (dropout, stochastic_depth) = sizes, rates
    features = [blocks.conv_norm(channels, inputs, 3, stride, **kinds)]
    drops = iter(np.linspace(0, stochastic_depth, sum(map(len, stages)), False))
    for rows in stages:
      body = []
      for row in rows:
        body.append(Block(inputs, row, float(next(drops)), **kinds))
        inputs = row.outputs
      features.append(layers.Sequential(body))
    features.append(blocks.conv_norm(inputs, last, 1, **kinds))
    self.features = layers.Sequential(features)
    head = layers.Linear(
      last, classes, init=initializers.symmetric(classes**-0.5), rngs=rngs
    )
    self.classifier = layers.Sequential(
      [layers.Dropout(dropout), blocks.unbiased(head)]
    )

  def __call__(self, x: types.Array) -> types.Array:
    """Maps normalised images [B, H, W, C] to logits [B, K]."""
    return self.classifier(pools.global_average_pool(self.features(x)))


def efficientnet(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  *,
  variant: str = 'b0',
  width: float = 1.0,
  depth: int | None = None,
  stem: str | None = None,
  norm: str = 'batch',
  activation: str = 'silu',
  dropout: float = 0.2,
  stochastic_depth: float = 0.2,
  normalisation: str = 'imagenet',
  lowering: str = 'auto',
) -> base.Net:
  """EfficientNet-B0 or V2-S of any width and depth, in either form.

  Args:
    image_shape: (H, W, C).
    num_classes: size of the last layer.
    variant: 'b0' or 'v2_s'.
    width: the factor of the channels, which stay multiples of 8.
    depth: the number of blocks, of 16 or 40, that are kept from the first; all
      if None.
    stem: 'cifar' (stride 1) or 'imagenet' (stride 2); by image size if None.
    norm: a name in `norms.NORMS`; convolutions have no bias with any of them.
    activation: a name in `layers.ACTIVATIONS`; the gates remain sigmoid.
    dropout: rate in front of the classifier.
    stochastic_depth: the rate at which a training pass would leave out a block
      after the last one; the rate grows linearly from 0 at the first block.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: an unknown variant, stem, norm, activation or normalisation; a
      factor that is not above 0, a depth that the variant does not have, a rate
      outside [0, 1); or an image side below 16 (CIFAR form) or 32.
  """
  published = registry.lookup(_VARIANTS, variant, 'variant')
  spec = base.make_spec(
    f'efficientnet_{variant}', image_shape, num_classes, normalisation
  )
  blocks.require_factor(width=width)
  stem = dimensions.image_form(image_shape, stem)
  dimensions.require_size(image_shape, _REDUCTIONS[stem])
  small = stem == 'cifar'
  layers.Dropout(stochastic_depth)  # checks a rate that no block reaches
  stages = _stages(published.stages, width, depth)
  last = published.last or 4 * stages[-1][-1].outputs
  make = functools.partial(
    EfficientNet,
    image_shape[2],
    num_classes,
    stages,
    (blocks.divisible(published.stem * width), last),
    1 if small else 2,
    (dropout, stochastic_depth),
    norm=norms.factory(norm, epsilon=published.epsilon),
    activation=blocks.activation(activation),
  )
  return from_nnx.from_nnx(lambda rngs: make(rngs=rngs), spec, lowering)


def _gated(inputs, hidden, outputs, size, stride, **kinds):
  gate = blocks.SqueezeExcitation(
    hidden,
    max(1, inputs // 4),
    kinds['activation'],
    jax.nn.sigmoid,
    rngs=kinds['rngs'],
  )
  return blocks.inverted(inputs, hidden, outputs, size, stride, gate, **kinds)


def _fused(inputs, hidden, outputs, size, stride, *, norm, activation, rngs):
  make = functools.partial(blocks.conv_norm, norm=norm, rngs=rngs)
  if hidden == inputs:
    return layers.Sequential(
      [make(inputs, outputs, size, stride, activation=activation)]
    )
  widen = make(inputs, hidden, size, stride, activation=activation)
  return layers.Sequential([widen, make(hidden, outputs, 1)])


def _stages(stages, width, depth):
  """Returns the rows of the first `depth` blocks, by stage."""
  single = [
    (i, row._replace(stride=stride, count=1))
    for i, row in enumerate(stages)
    for stride in (row.stride, *[1] * (row.count - 1))
  ]
  rows: dict[int, list[Row]] = {}
  for i, row in blocks.leading(single, depth):
    scaled = row._replace(outputs=blocks.divisible(row.outputs * width))
    rows.setdefault(i, []).append(scaled)
  return list(rows.values())
