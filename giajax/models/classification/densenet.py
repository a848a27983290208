"""DenseNet: every layer reads the outputs of all earlier layers of its block.

Huang et al., Densely Connected Convolutional Networks, CVPR 2017,
arXiv 1608.06993, with bottlenecks and compression by 2 (DenseNet-BC). Names are
torchvision's (`features.denseblock1.denselayer1.norm1`), whatever the kind of
norm. The CIFAR form has a 3x3 stem of stride 1 and no max-pool.
"""

from collections.abc import Sequence
import functools

from flax import nnx
import jax.numpy as jnp

from giajax import registry
from giajax import types
from giajax.models import base
from giajax.models import dimensions
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models.parts import initializers
from giajax.models.parts import norms
from giajax.models.parts import pools
from giajax.ops import fusion_barrier

_BOTTLENECK = 4  # channels between a layer's convolutions, in growths

_conv = functools.partial(
  layers.Conv, bias=False, init=initializers.he_normal_fan_in
)


class DenseLayer(nnx.Module):
  """A 1x1 and a 3x3 convolution, each after its norm and activation."""

  def __init__(self, inputs, growth, norm, activation, rate, *, rngs):
    inner = _BOTTLENECK * growth
    self.norm1 = norm(inputs, rngs=rngs)
    self.conv1 = _conv(inputs, inner, 1, rngs=rngs)
    self.norm2 = norm(inner, rngs=rngs)
    self.conv2 = _conv(inner, growth, 3, 1, 1, rngs=rngs)
    self.dropout = layers.Dropout(rate)
    self.activation = activation

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, inputs] to [B, H, W, growth]."""
    x = self.conv1(self.activation(self.norm1(x)))
    x = self.conv2(self.activation(self.norm2(x)))
    return self.dropout(x)


class DenseBlock(nnx.Module):
  """Layers that each append `growth` channels."""

  def __init__(self, inputs, count, growth, *options, rngs):
    self.names = tuple(f'denselayer{i + 1}' for i in range(count))
    for i, name in enumerate(self.names):
      layer = DenseLayer(inputs + i * growth, growth, *options, rngs=rngs)
      setattr(self, name, layer)

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, inputs] to [B, H, W, inputs + count * growth]."""
    for name in self.names:
      grown = jnp.concatenate([x, getattr(self, name)(x)], axis=-1)
      x = fusion_barrier.fusion_barrier(grown)
    return x


class Transition(nnx.Module):
  """Halves the channels and the side of the image."""

  def __init__(self, inputs, norm, activation, *, rngs):
    self.norm = norm(inputs, rngs=rngs)
    self.conv = _conv(inputs, inputs // 2, 1, rngs=rngs)
    self.activation = activation

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, inputs] to [B, H // 2, W // 2, inputs // 2]."""
    return pools.average_pool(self.conv(self.activation(self.norm(x))), 2)


class Features(nnx.Module):
  """The stem, the blocks and a last norm."""

  def __init__(
    self, channels, blocks, growth, norm, activation, rate, stem, *, rngs
  ):
    width = 2 * growth
    kernel = (3, 1, 1) if stem == 'cifar' else (7, 2, 3)
    self.conv0 = _conv(channels, width, *kernel, rngs=rngs)
    self.norm0 = norm(width, rngs=rngs)
    self.activation, self.pool = activation, stem == 'imagenet'
    names = []
    for i, count in enumerate(blocks, 1):
      if i > 1:
        transition = Transition(width, norm, activation, rngs=rngs)
        setattr(self, f'transition{i - 1}', transition)
        names.append(f'transition{i - 1}')
        width //= 2
      options = norm, activation, rate
      block = DenseBlock(width, count, growth, *options, rngs=rngs)
      setattr(self, f'denseblock{i}', block)
      names.append(f'denseblock{i}')
      width += count * growth
    self.names, self.width = tuple(names), width
    self.norm5 = norm(width, rngs=rngs)

  def __call__(self, x: types.Array) -> types.Array:
    """Maps normalised images [B, H, W, C] to [B, H', W', width]."""
    x = self.activation(self.norm0(self.conv0(x)))
    if self.pool:
      x = pools.max_pool(x, 3, 2, 1)
    for name in self.names:
      x = getattr(self, name)(x)
    return self.activation(self.norm5(x))


class DenseNet(nnx.Module):
  """`features`, a global average and a linear `classifier`."""

  def __init__(self, channels, classes, *options, rngs):
    self.features = Features(channels, *options, rngs=rngs)
    self.classifier = layers.Linear(
      self.features.width, classes, bias_init=initializers.zeros, rngs=rngs
    )

  def __call__(self, x: types.Array) -> types.Array:
    """Maps normalised images [B, H, W, C] to logits [B, K]."""
    return self.classifier(pools.global_average_pool(self.features(x)))


def densenet(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  *,
  blocks: Sequence[int] = (6, 12, 24, 16),
  growth: int = 32,
  norm: str = 'batch',
  activation: str = 'relu',
  dropout: float = 0.0,
  stem: str | None = None,
  normalisation: str = 'imagenet',
  lowering: str = 'auto',
) -> base.Net:
  """DenseNet-BC, by default of depth 121.

  Args:
    image_shape: (H, W, C), at least 8x8 with the CIFAR stem and 32x32 with the
      ImageNet stem for four blocks.
    num_classes: size of the last layer.
    blocks: layers in each dense block.
    growth: channels that a layer adds; the stem has twice as many.
    norm: a name in `norms.NORMS`.
    activation: a name in `layers.ACTIVATIONS`.
    dropout: rate in [0, 1) after each layer.
    stem: 'cifar' or 'imagenet' (7x7, stride 2, max-pool), by image size if
      None.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: an image that is too small, or an unknown or impossible value of
      an option.
  """
  blocks, stem = tuple(blocks), dimensions.image_form(image_shape, stem)
  if not blocks or min(*blocks, growth) < 1:
    raise ValueError(
      'Expected blocks of at least one layer and a growth of at least 1; got '
      f'blocks={blocks}, growth={growth}; use (6, 12, 24, 16) and 32'
    )
  dimensions.require_blocks(blocks, 'blocks')
  options = (
    registry.lookup(norms.NORMS, norm, 'norm'),
    registry.lookup(layers.ACTIVATIONS, activation, 'activation'),
    dropout,
    stem,
  )
  depth = 2 * sum(blocks) + len(blocks) + 1
  spec = base.make_spec(
    f'densenet{depth}', image_shape, num_classes, normalisation
  )
  reduction = 2 ** (len(blocks) - 1) * (4 if stem == 'imagenet' else 1)
  dimensions.require_size(image_shape, reduction)
  make = functools.partial(
    DenseNet, image_shape[2], num_classes, blocks, growth, *options
  )
  return from_nnx.from_nnx(lambda rngs: make(rngs=rngs), spec, lowering)
