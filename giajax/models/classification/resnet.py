"""ResNet: torchvision's nets, the CIFAR nets of depth 6n+2, pre-activation.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv
1512.03385; pre-activation: Identity Mappings in Deep Residual Networks, ECCV
2016, arXiv 1603.05027; Zagoruyko and Komodakis, Wide Residual Networks, BMVC
2016, arXiv 1605.07146; Xie et al., Aggregated Residual Transformations for Deep
Neural Networks, CVPR 2017, arXiv 1611.05431.

Attribute names are torchvision's (`layer1.0.conv1`) and, for the CIFAR nets,
those of akamaster/pytorch_resnet_cifar10 (the classifier is called `linear`).
The norm of convolution i is `bn<i>` whatever its kind, and convolutions have no
bias even without norms. The CIFAR form has a 3x3 stem of stride 1 and no pool.

Pre-activation nets have a `bn` in front of the global pool, none after the
stem, and call a projection `shortcut.0`. As in the authors' code, a projection
starts after the block's first activation and all else in front of it.

The ResNets of breaching are ours with shortcut B under other names, read by

  convert.load(path, net, prefix='state.model', rename={
    'stem.0': 'conv1', 'stem.1': 'bn1', 'layers.0': 'layer1', ...,
    'linear': 'fc'})  # the last not for the CIFAR nets
"""

from collections.abc import Callable, Sequence
import functools
from typing import NamedTuple

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

# Blocks per stage. The nets of three stages are the CIFAR nets.
BLOCKS = {
  18: (2, 2, 2, 2),
  20: (3, 3, 3),
  32: (5, 5, 5),
  34: (3, 4, 6, 3),
  44: (7, 7, 7),
  50: (3, 4, 6, 3),
  56: (9, 9, 9),
  101: (3, 4, 23, 3),
  152: (3, 8, 36, 3),
}
BOTTLENECKS = (50, 101, 152)
# Whether the norm is in front of the convolution.
_PLACEMENTS = {'after': False, 'before': True}


_conv = functools.partial(
  layers.Conv, bias=False, init=initializers.he_normal_fan_out
)


class Style(NamedTuple):
  """What all blocks of a network have in common."""

  norm: Callable[..., layers.Layer]  # a value of norms.NORMS
  activation: Callable[[types.Array], types.Array]
  before: bool  # norm and activation stand in front of the convolutions
  skip: bool  # whether there are shortcuts
  option_a: bool  # those that change the shape have no parameters
  bottleneck: bool
  groups: int  # groups of a bottleneck's 3x3 convolution
  group_width: int  # channels per group, for 64 channels of the block
  # of the kernels; torch's default if None
  init: Callable[..., types.Array] | None = initializers.he_normal_fan_out

  def outputs(self, width: int) -> int:
    """Returns the channels that leave a block of a stage's `width`."""
    return 4 * width if self.bottleneck else width

  def convolutions(self, width: int, stride: int) -> list[tuple[int, ...]]:
    """Returns (outputs, size, stride, groups) of a block's convolutions.

    Raises:
      ValueError: the groups have no channel.
    """
    if not self.bottleneck:
      return [(width, 3, stride, 1), (width, 3, 1, 1)]
    inner = width * self.group_width // 64 * self.groups
    if inner < 1:
      raise ValueError(
        'Expected at least one channel per group; got '
        f'group_width={self.group_width} of 64 channels, of which there are '
        f'{width}; use a larger group_width or width'
      )
    outputs = self.outputs(width)
    return [
      (inner, 1, 1, 1),
      (inner, 3, stride, self.groups),
      (outputs, 1, 1, 1),
    ]


class Block(nnx.Module):
  """The basic block or the bottleneck: convolutions and a shortcut."""

  def __init__(self, inputs, width, stride, style, *, rngs):
    conv = functools.partial(_conv, init=style.init, rngs=rngs)
    self.style, self.stride = style, stride
    convolutions = style.convolutions(width, stride)
    self.depth, channels = len(convolutions), inputs
    for i, (outputs, size, step, groups) in enumerate(convolutions, 1):
      layer = conv(channels, outputs, size, step, size // 2, groups=groups)
      setattr(self, f'conv{i}', layer)
      features = channels if style.before else outputs
      setattr(self, f'bn{i}', style.norm(features, rngs=rngs))
      channels = outputs
    changes = stride != 1 or inputs != channels
    self.pad = channels - inputs
    self.projects = style.skip and changes and not style.option_a
    if self.projects:
      projection = conv(inputs, channels, 1, stride)
      if style.before:
        self.shortcut = nnx.List([projection])
      else:
        norm = style.norm(channels, rngs=rngs)
        self.downsample = nnx.List([projection, norm])

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, inputs] to [B, H', W', outputs]."""
    return self._before(x) if self.style.before else self._after(x)

  def _after(self, x):
    act, y = self.style.activation, x
    *inner, (conv, norm) = self._pairs()
    for inner_conv, inner_norm in inner:
      y = act(inner_norm(inner_conv(y)))
    return act(self._plus(norm(conv(y)), x))

  def _before(self, x):
    act = self.style.activation
    (conv, norm), *inner = self._pairs()
    z = act(norm(x))
    y = conv(z)
    for inner_conv, inner_norm in inner:
      y = inner_conv(act(inner_norm(y)))
    return self._plus(y, z if self.projects else x)

  def _pairs(self):
    return [
      (getattr(self, f'conv{i}'), getattr(self, f'bn{i}'))
      for i in range(1, self.depth + 1)
    ]

  def _plus(self, y, x):
    """Returns y with the shortcut of x, if there is one."""
    if not self.style.skip:
      return y
    if self.projects:
      for layer in self.shortcut if self.style.before else self.downsample:
        x = layer(x)
    elif self.pad or self.stride != 1:
      x = x[:, :: self.stride, :: self.stride]
      half = self.pad // 2
      x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (half, self.pad - half)))
    return y + x


class ResNet(nnx.Module):
  """A stem, stages that double the width, and a linear layer named `head`.

  With None for a name it has no linear layer, and gives `features` only.
  """

  def __init__(
    self, channels, classes, blocks, width, style, stem, head, *, rngs
  ):
    kernel = (3, 1, 1) if stem == 'cifar' else (7, 2, 3)
    self.conv1 = _conv(channels, width, *kernel, rngs=rngs)
    if not style.before:
      self.bn1 = style.norm(width, rngs=rngs)
    self.style, self.stages, self.head = style, len(blocks), head
    self.pool = stem == 'imagenet'
    inputs = width
    for i, count in enumerate(blocks):
      stage = []
      for j in range(count):
        stride = 2 if i and not j else 1
        stage.append(Block(inputs, width * 2**i, stride, style, rngs=rngs))
        inputs = style.outputs(width * 2**i)
      setattr(self, f'layer{i + 1}', nnx.List(stage))
    if style.before:
      self.bn = style.norm(inputs, rngs=rngs)
    self.outputs = inputs
    if head is not None:
      setattr(self, head, layers.Linear(inputs, classes, rngs=rngs))

  def __call__(self, x: types.Array) -> types.Array:
    """Maps normalised images [B, H, W, C] to logits [B, K]."""
    x = self.features(x)
    return getattr(self, self.head)(pools.global_average_pool(x))

  def features(self, x: types.Array) -> types.Array:
    """Maps normalised images to what the last stage gives, [B, H', W', P]."""
    x = self.conv1(x)
    if not self.style.before:
      x = self.style.activation(self.bn1(x))
    if self.pool:
      x = pools.max_pool(x, 3, 2, 1)
    for i in range(self.stages):
      for block in getattr(self, f'layer{i + 1}'):
        x = fusion_barrier.fusion_barrier(block(x))
    if self.style.before:
      x = self.style.activation(self.bn(x))
    return x


def resnet(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  *,
  depth: int = 18,
  blocks: Sequence[int] | None = None,
  width: float = 1,
  groups: int = 1,
  group_width: int = 64,
  stem: str | None = None,
  skip: bool = True,
  shortcut: str | None = None,
  norm: str = 'batch',
  placement: str = 'after',
  activation: str = 'relu',
  normalisation: str = 'imagenet',
  lowering: str = 'auto',
) -> base.Net:
  """ResNet of depth 18, 34, 50, 101, 152, or 20, 32, 44, 56 (CIFAR nets).

  Args:
    image_shape: (H, W, C).
    num_classes: size of the last layer.
    depth: the number of layers; from 50 on, except for 56, blocks are
      bottlenecks.
    blocks: the number of blocks per stage, in place of those of the depth;
      their kind remains.
    width: factor of all channels.
    groups: the number of groups of the bottlenecks' 3x3 convolution; 32 make
      ResNeXt.
    group_width: channels of each group in the first stage, before `width`; 128
      in one group make a Wide-ResNet.
    stem: 'cifar' or 'imagenet' (7x7, stride 2, max-pool), by image size if
      None. The CIFAR nets have only the first.
    skip: whether blocks have shortcuts at all.
    shortcut: where the shape changes, 'A' subsamples and pads with zeros, 'B'
      projects. The CIFAR nets have either ('A' if None), the others 'B'.
    norm: a name in `norms.NORMS`.
    placement: the placement of norm and activation, 'after' or 'before' the
      convolutions.
    activation: a name in `layers.ACTIVATIONS`.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: an unknown or impossible value of an option, or a combination
      that does not exist.
  """
  stem = dimensions.image_form(image_shape, stem)
  _check(depth, stem, skip, shortcut, (groups, group_width))
  cifar = len(BLOCKS[depth]) == 3
  before = registry.lookup(_PLACEMENTS, placement, 'placement')
  style = Style(
    registry.lookup(norms.NORMS, norm, 'norm'),
    registry.lookup(layers.ACTIVATIONS, activation, 'activation'),
    before=before,
    skip=skip,
    option_a=cifar and shortcut != 'B',
    bottleneck=depth in BOTTLENECKS,
    groups=groups,
    group_width=group_width,
  )
  stages = tuple(BLOCKS[depth] if blocks is None else blocks)
  if not stages or min(stages) < 1:
    raise ValueError(
      'Expected at least one block in each of at least one stage; got '
      f'blocks={blocks}; use None for those of the depth'
    )
  dimensions.require_blocks(stages, 'blocks')
  reduction = 2 ** (len(stages) - 1) * (4 if stem == 'imagenet' else 1)
  dimensions.require_size(image_shape, reduction)
  name = f'{"preact_" * before}{"wide_" * (group_width > 64)}resnet{depth}'
  name = name.replace('resnet', 'resnext') if groups > 1 else name
  spec = base.make_spec(name, image_shape, num_classes, normalisation)
  first, head = (16, 'linear') if cifar else (64, 'fc')
  sizes = image_shape[2], num_classes, stages, dimensions.scaled(first, width)
  make = functools.partial(ResNet, *sizes, style, stem, head)
  return from_nnx.from_nnx(lambda rngs: make(rngs=rngs), spec, lowering)


def _check(depth, stem, skip, shortcut, grouping):
  """Raises a ValueError for combinations of options that do not exist."""
  cifar = len(BLOCKS.get(depth, ())) == 3
  if depth not in BLOCKS or (cifar and stem != 'cifar'):
    raise ValueError(
      'Expected depth 18, 34, 50, 101, 152, or 20, 32, 44, 56 with the CIFAR '
      f'stem; got depth={depth}, stem={stem!r}; use one of them'
    )
  allowed = ('A', 'B') if cifar and skip else ('B',) if skip else ()
  if shortcut not in (None, *allowed):
    raise ValueError(
      "Expected shortcut 'B', 'A' with depth 20, 32, 44, 56, or None without "
      f'skips; got shortcut={shortcut!r}, depth={depth}, skip={skip}; use None'
    )
  plain = depth not in BOTTLENECKS
  if min(grouping) < 1 or (plain and grouping != (1, 64)):
    raise ValueError(
      'Expected groups and group_width of at least 1, and other than 1 and 64 '
      f'only for depth 50, 101, 152; got {grouping}, depth={depth}; omit them'
    )
