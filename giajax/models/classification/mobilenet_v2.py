"""MobileNetV2: inverted residuals with linear bottlenecks.

Sandler, Howard, Zhu, Zhmoginov and Chen, MobileNetV2: Inverted Residuals and
Linear Bottlenecks, CVPR 2018, arXiv 1801.04381. Attribute names are those of
torchvision (`features.1.conv.0.0`), whose weights fit at 224x224.

The CIFAR form, which torchvision does not have, keeps the strides of the stem
and of the 24-channel stage at 1, so that a side is divided by 8 and not by 32.
The width factor scales all channels except, below 1, the last.
"""

from collections.abc import Sequence
import functools

from flax import nnx

from giajax import types
from giajax.models import base
from giajax.models import dimensions
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models.parts import blocks
from giajax.models.parts import initializers
from giajax.models.parts import norms
from giajax.models.parts import pools

# Of each stage: expansion, channels out, blocks, and stride of the first.
_STAGES = (
  (1, 16, 1, 1),
  (6, 24, 2, 2),
  (6, 32, 3, 2),
  (6, 64, 4, 2),
  (6, 96, 3, 1),
  (6, 160, 3, 2),
  (6, 320, 1, 1),
)
_REDUCTIONS = {'cifar': 8, 'imagenet': 32}


class InvertedResidual(nnx.Module):
  """Widen, mix neighbours, narrow without an activation; plus the input."""

  def __init__(
    self, inputs, outputs, stride, expansion, *, norm, activation, rngs
  ):
    make = functools.partial(
      blocks.conv_norm, norm=norm, activation=activation, rngs=rngs
    )
    hidden = inputs * expansion
    self.conv = layers.Sequential(
      [
        *([make(inputs, hidden, 1)] if expansion != 1 else []),
        make(hidden, hidden, 3, stride, groups=hidden),
        # Flat, where the parts above are nested: torchvision's names.
        *blocks.conv_norm(hidden, outputs, 1, norm=norm, rngs=rngs),
      ]
    )
    self.skip = stride == 1 and inputs == outputs

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, inputs] to [B, H', W', outputs]."""
    y = self.conv(x)
    return layers.residual(x, y) if self.skip else y


class MobileNetV2(nnx.Module):
  """A stem, the stages, a last 1x1 convolution and one linear layer."""

  def __init__(
    self,
    channels: int,
    classes: int,
    rows: Sequence[tuple[int, int, int]],
    sizes: tuple[int, int],
    stride: int,
    dropout: float,
    *,
    norm,
    activation,
    rngs: nnx.Rngs,
  ):
    kinds = dict(norm=norm, activation=activation, rngs=rngs)
    inputs, last = sizes
    features: list[nnx.Module] = [
      blocks.conv_norm(channels, inputs, 3, stride, **kinds)
    ]
    for expansion, outputs, stride in rows:
      features.append(
        InvertedResidual(inputs, outputs, stride, expansion, **kinds)
      )
      inputs = outputs
    features.append(blocks.conv_norm(inputs, last, 1, **kinds))
    self.features = layers.Sequential(features)
    head = layers.Linear(
      last, classes, init=initializers.normal(0.01), rngs=rngs
    )
    self.classifier = layers.Sequential(
      [layers.Dropout(dropout), blocks.unbiased(head)]
    )

  def __call__(self, x: types.Array) -> types.Array:
    """Maps normalised images [B, H, W, C] to logits [B, K]."""
    return self.classifier(pools.global_average_pool(self.features(x)))


def mobilenet_v2(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  *,
  width: float = 1.0,
  depth: int | None = None,
  stem: str | None = None,
  norm: str = 'batch',
  activation: str = 'relu6',
  dropout: float = 0.2,
  normalisation: str = 'imagenet',
  lowering: str = 'auto',
) -> base.Net:
  """MobileNetV2 of any width, in the ImageNet or the CIFAR form.

  Args:
    image_shape: (H, W, C).
    num_classes: size of the last layer.
    width: factor of the channels, which stay multiples of 8; below 1 the last
      convolution keeps its 1280.
    depth: the number of blocks, of 17, that are kept from the first; all if
      None.
    stem: 'cifar' (strides 1 in the stem and the 24-channel stage) or
      'imagenet'; by image size if None.
    norm: a name in `norms.NORMS`; convolutions have no bias with any of them.
    activation: a name in `layers.ACTIVATIONS`.
    dropout: rate in front of the classifier.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: an unknown stem, norm, activation or normalisation; a factor
      that is not above 0, a depth outside 1 to 17, a rate outside [0, 1); or an
      image side below 8 (CIFAR form) or 32.
  """
  spec = base.make_spec('mobilenet_v2', image_shape, num_classes, normalisation)
  blocks.require_factor(width=width)
  stem = dimensions.image_form(image_shape, stem)
  dimensions.require_size(image_shape, _REDUCTIONS[stem])
  small = stem == 'cifar'
  rows = blocks.leading(_rows(width, small), depth)
  sizes = blocks.divisible(32 * width), blocks.divisible(1280 * max(1, width))
  make = functools.partial(
    MobileNetV2,
    image_shape[2],
    num_classes,
    rows,
    sizes,
    1 if small else 2,
    dropout,
    norm=norms.factory(norm),
    activation=blocks.activation(activation),
  )
  return from_nnx.from_nnx(lambda rngs: make(rngs=rngs), spec, lowering)


def _rows(width: float, small: bool) -> list[tuple[int, int, int]]:
  """Returns expansion, channels out and stride of each block."""
  rows = []
  for expansion, outputs, count, stride in _STAGES:
    first = 1 if small and outputs == 24 else stride
    scaled = blocks.divisible(outputs * width)
    rows += [
      (expansion, scaled, stride) for stride in (first, *[1] * (count - 1))
    ]
  return rows
