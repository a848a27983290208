"""ResNet: the CIFAR nets of depth 6n+2 and the ImageNet nets of 18/34/50.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016,
arXiv 1512.03385. Attribute names are those of torchvision (`layer1.0.conv1`)
and, for the CIFAR nets, of akamaster/pytorch_resnet_cifar10 (the
classifier is called `linear`). Their shortcuts are the parameter-free ones of
the paper (option A) or projections with BatchNorm (option B).

The ResNets of breaching are ours with shortcut B under other names, read by

  convert.load(path, net, prefix='state.model', rename={
    'stem.0': 'conv1', 'stem.1': 'bn1', 'layers.0': 'layer1', ...,
    'linear': 'fc'})

where the last entry is for depths 18, 34 and 50 only.
"""

import functools

from flax import nnx
import jax
import jax.numpy as jnp

from giajax.models import base
from giajax.models import layers

_STAGES = {
  18: (2, 2, 2, 2),
  34: (3, 4, 6, 3),
  50: (3, 4, 6, 3),
}


class BasicBlock(nnx.Module):
  """Two 3x3 convolutions and a shortcut."""

  expansion = 1

  def __init__(self, inputs, width, stride, *, option_a=False, rngs):
    conv = functools.partial(
      layers.Conv, bias=False, init=layers.he_normal_fan_out, rngs=rngs
    )
    self.conv1 = conv(inputs, width, 3, stride, 1)
    self.bn1 = layers.BatchNorm(width, rngs=rngs)
    self.conv2 = conv(width, width, 3, 1, 1)
    self.bn2 = layers.BatchNorm(width, rngs=rngs)
    self.stride = stride
    self.pad = width - inputs if option_a else 0
    self.downsample = (
      _projection(conv, inputs, width, stride, rngs)
      if not option_a and (stride != 1 or inputs != width)
      else None
    )

  def __call__(self, x):
    """Maps [B, H, W, inputs] to [B, H', W', width]."""
    y = jax.nn.relu(self.bn1(self.conv1(x)))
    y = self.bn2(self.conv2(y))
    return jax.nn.relu(y + self._shortcut(x))

  def _shortcut(self, x):
    if self.downsample is not None:
      return _projected(self.downsample, x)
    if self.pad or self.stride != 1:
      x = x[:, :: self.stride, :: self.stride]
      half = self.pad // 2
      return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (half, self.pad - half)))
    return x


class Bottleneck(nnx.Module):
  """1x1, 3x3 (which carries the stride), 1x1, and a shortcut."""

  expansion = 4

  def __init__(self, inputs, width, stride, *, rngs):
    conv = functools.partial(
      layers.Conv, bias=False, init=layers.he_normal_fan_out, rngs=rngs
    )
    outputs = width * self.expansion
    self.conv1 = conv(inputs, width, 1)
    self.bn1 = layers.BatchNorm(width, rngs=rngs)
    self.conv2 = conv(width, width, 3, stride, 1)
    self.bn2 = layers.BatchNorm(width, rngs=rngs)
    self.conv3 = conv(width, outputs, 1)
    self.bn3 = layers.BatchNorm(outputs, rngs=rngs)
    self.downsample = (
      _projection(conv, inputs, outputs, stride, rngs)
      if stride != 1 or inputs != outputs
      else None
    )

  def __call__(self, x):
    """Maps [B, H, W, inputs] to [B, H', W', 4 * width]."""
    y = jax.nn.relu(self.bn1(self.conv1(x)))
    y = jax.nn.relu(self.bn2(self.conv2(y)))
    y = self.bn3(self.conv3(y))
    if self.downsample is not None:
      x = _projected(self.downsample, x)
    return jax.nn.relu(y + x)


class ResNet(nnx.Module):
  """torchvision's ResNet, with an ImageNet or a CIFAR stem."""

  def __init__(self, block, stages, channels, classes, stem, *, rngs):
    small = stem == 'cifar'
    self.conv1 = layers.Conv(
      channels,
      64,
      *((3, 1, 1) if small else (7, 2, 3)),
      bias=False,
      init=layers.he_normal_fan_out,
      rngs=rngs,
    )
    self.bn1 = layers.BatchNorm(64, rngs=rngs)
    self.pool, self.stages = not small, len(stages)
    inputs = 64
    for i, blocks in enumerate(stages):
      width = 64 * 2**i
      stage = _stage(block, inputs, width, blocks, 1 if i == 0 else 2, rngs)
      setattr(self, f'layer{i + 1}', stage)
      inputs = width * block.expansion
    self.fc = layers.Linear(inputs, classes, rngs=rngs)

  def __call__(self, x):
    """Maps normalised images [B, H, W, C] to logits [B, K]."""
    x = jax.nn.relu(self.bn1(self.conv1(x)))
    if self.pool:
      x = layers.max_pool(x, 3, 2, 1)
    for i in range(self.stages):
      for block in getattr(self, f'layer{i + 1}'):
        x = block(x)
    return self.fc(layers.global_average_pool(x))


class CifarResNet(nnx.Module):
  """Three stages of width 16, 32, 64 for 32x32 images."""

  def __init__(self, blocks, channels, classes, shortcut, *, rngs):
    self.conv1 = layers.Conv(
      channels,
      16,
      3,
      1,
      1,
      bias=False,
      init=layers.he_normal_fan_out,
      rngs=rngs,
    )
    self.bn1 = layers.BatchNorm(16, rngs=rngs)
    block = functools.partial(BasicBlock, option_a=shortcut == 'A')
    self.layer1 = _stage(block, 16, 16, blocks, 1, rngs)
    self.layer2 = _stage(block, 16, 32, blocks, 2, rngs)
    self.layer3 = _stage(block, 32, 64, blocks, 2, rngs)
    self.linear = layers.Linear(64, classes, rngs=rngs)

  def __call__(self, x):
    """Maps normalised images [B, H, W, C] to logits [B, K]."""
    x = jax.nn.relu(self.bn1(self.conv1(x)))
    for stage in (self.layer1, self.layer2, self.layer3):
      for block in stage:
        x = block(x)
    return self.linear(layers.global_average_pool(x))


def resnet(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  *,
  depth: int = 18,
  stem: str | None = None,
  shortcut: str | None = None,
  normalisation: str = 'imagenet',
  lowering: str = 'auto',
) -> base.Net:
  """ResNet of depth 18, 34, 50 (either stem) or 20, 32, 44, 56 (CIFAR form).

  Args:
    image_shape: (H, W, C).
    num_classes: size of the last layer.
    depth: counted layers.
    stem: 'cifar' (3x3, stride 1, no pooling) or 'imagenet' (7x7, stride 2,
      max-pooling); by image size if None. The CIFAR nets have only the first.
    shortcut: where the shape changes, 'A' subsamples and pads with zero
      channels, 'B' projects. The CIFAR nets have either ('A' if None), the
      others 'B' only.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: an unknown depth, stem, shortcut or normalisation, or a
      combination that does not exist.
  """
  if stem is None:
    stem = 'cifar' if min(image_shape[:2]) <= 64 else 'imagenet'
  if stem not in ('cifar', 'imagenet'):
    raise ValueError(
      f"Expected stem 'cifar' or 'imagenet'; got stem={stem!r}; use one of them"
    )
  shortcut = shortcut or ('B' if depth in _STAGES else 'A')
  if shortcut not in ('A', 'B') or (shortcut == 'A' and depth in _STAGES):
    raise ValueError(
      "Expected shortcut 'B', or 'A' with depth 20, 32, 44, 56; got "
      f'shortcut={shortcut!r}, depth={depth}; use one of them'
    )
  channels = image_shape[2]
  if depth in _STAGES:
    make = functools.partial(
      ResNet,
      Bottleneck if depth >= 50 else BasicBlock,
      _STAGES[depth],
      channels,
      num_classes,
      stem,
    )
  elif depth in (20, 32, 44, 56) and stem == 'cifar':
    make = functools.partial(
      CifarResNet, (depth - 2) // 6, channels, num_classes, shortcut
    )
  else:
    raise ValueError(
      'Expected depth 18, 34, 50, or 20, 32, 44, 56 with the CIFAR stem; got '
      f'depth={depth}, stem={stem!r}; use one of them'
    )
  spec = base.make_spec(
    f'resnet{depth}', image_shape, num_classes, normalisation
  )
  return base.from_nnx(lambda rngs: make(rngs=rngs), spec, lowering)


def _stage(block, inputs, width, blocks, stride, rngs):
  expansion = getattr(block, 'expansion', 1)
  return nnx.List(
    [
      block(
        inputs if i == 0 else width * expansion,
        width,
        stride if i == 0 else 1,
        rngs=rngs,
      )
      for i in range(blocks)
    ]
  )


def _projection(conv, inputs, outputs, stride, rngs):
  return nnx.List(
    [conv(inputs, outputs, 1, stride), layers.BatchNorm(outputs, rngs=rngs)]
  )


def _projected(projection, x):
  conv, norm = projection
  return norm(conv(x))
