"""GoogLeNet: nine inception modules of four branches each.

Szegedy et al., Going Deeper with Convolutions, CVPR 2015, arXiv 1409.4842, as
in torchvision: with BatchNorm of epsilon 1e-3, 3x3 convolutions where the paper
has 5x5, pools that round up, and torchvision's names
(`inception3a.branch2.0.conv`). The auxiliary classifiers, which serve training
from scratch only, do not exist here: a state dict with `aux1` and `aux2` is
refused; torchvision's pretrained network has none unless asked
(`aux_logits=False`). Its `transform_input` is a normalisation of the input,
which is set by `normalisation` here.

The CIFAR form has a 3x3 stem of stride 1 and no pool after it.
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

# By stage, channels of the inception modules a, b, ...: branch 1; reduction and
# output of branches 2 and 3; branch 4.
_INCEPTIONS = {
  3: ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
  4: (
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
  ),
  5: ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
}
_NORMS = {
  **norms.NORMS,
  'batch': functools.partial(norms.BatchNorm, epsilon=1e-3),
}

_max_pool = functools.partial(pools.max_pool, ceil=True)


class Unit(nnx.Module):
  """A convolution, its norm and the activation."""

  def __init__(
    self, inputs, outputs, size=1, stride=1, *, norm, activation, rngs
  ):
    self.conv = layers.Conv(
      inputs,
      outputs,
      size,
      stride,
      size // 2,
      bias=False,
      init=initializers.normal(0.01),
      rngs=rngs,
    )
    self.bn = norm(outputs, rngs=rngs)
    self.activation = activation

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, inputs] to [B, H', W', outputs]."""
    return self.activation(self.bn(self.conv(x)))


class Inception(nnx.Module):
  """1x1; 1x1 and 3x3; again; pool and 1x1: side by side."""

  def __init__(self, inputs, channels, unit, *, rngs):
    one, reduce2, two, reduce3, three, four = channels
    unit = functools.partial(unit, rngs=rngs)
    self.branch1 = unit(inputs, one)
    self.branch2 = layers.Sequential(
      [unit(inputs, reduce2), unit(reduce2, two, 3)]
    )
    self.branch3 = layers.Sequential(
      [unit(inputs, reduce3), unit(reduce3, three, 3)]
    )
    pool = functools.partial(_max_pool, size=3, stride=1, padding=1)
    self.branch4 = layers.Sequential([pool, unit(inputs, four)])
    self.outputs = one + two + three + four

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, inputs] to [B, H, W, outputs]."""
    branches = self.branch1, self.branch2, self.branch3, self.branch4
    return jnp.concatenate([branch(x) for branch in branches], axis=-1)


class GoogLeNet(nnx.Module):
  """Three convolutions, three stages of inception modules, a linear layer."""

  def __init__(
    self, channels, classes, blocks, width, unit, rate, stem, *, rngs
  ):
    self.small = stem == 'cifar'
    first, inputs = dimensions.scaled(64, width), dimensions.scaled(192, width)
    kernel = (3, 1) if self.small else (7, 2)
    self.conv1 = unit(channels, first, *kernel, rngs=rngs)
    self.conv2 = unit(first, first, rngs=rngs)
    self.conv3 = unit(first, inputs, 3, rngs=rngs)
    stages = []
    for count, (stage, published) in zip(blocks, _INCEPTIONS.items()):
      stages.append(
        tuple(f'inception{stage}{"abcde"[i]}' for i in range(count))
      )
      for name, row in zip(stages[-1], published):
        sizes = [dimensions.scaled(size, width) for size in row]
        setattr(self, name, Inception(inputs, sizes, unit, rngs=rngs))
        inputs = getattr(self, name).outputs
    self.stages = tuple(stages)
    self.dropout = layers.Dropout(rate)
    self.fc = layers.Linear(
      inputs, classes, init=initializers.normal(0.01), rngs=rngs
    )

  def __call__(self, x: types.Array) -> types.Array:
    """Maps normalised images [B, H, W, C] to logits [B, K]."""
    x = self.conv1(x)
    if not self.small:
      x = _max_pool(x, 3, 2)
    x = _max_pool(self.conv3(self.conv2(x)), 3, 2)
    for names, pool in zip(self.stages, (3, 2, None)):
      for name in names:
        x = getattr(self, name)(x)
      if pool:
        x = _max_pool(x, pool, 2)
    return self.fc(self.dropout(pools.global_average_pool(x)))


def googlenet(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  *,
  blocks: Sequence[int] = (2, 5, 2),
  width: float = 1,
  norm: str = 'batch',
  activation: str = 'relu',
  dropout: float = 0.2,
  stem: str | None = None,
  normalisation: str = 'imagenet',
  lowering: str = 'auto',
) -> base.Net:
  """GoogLeNet (Inception v1) without auxiliary classifiers.

  Args:
    image_shape: (H, W, C), at least 8x8 with the CIFAR stem and 32x32 with the
      ImageNet stem.
    num_classes: size of the last layer.
    blocks: the number of inception modules in the stages 3, 4 and 5, counted
      from the first of each; at most (2, 5, 2).
    width: factor of all channels.
    norm: a name in `norms.NORMS`.
    activation: a name in `layers.ACTIVATIONS`.
    dropout: rate in [0, 1) in front of the linear layer.
    stem: 'cifar' or 'imagenet' (7x7, stride 2, max-pool), by image size if
      None.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: an image that is too small, or an unknown or impossible value of
      an option.
  """
  stem = dimensions.image_form(image_shape, stem)
  most = [len(rows) for rows in _INCEPTIONS.values()]
  blocks = tuple(blocks)
  if len(blocks) != 3 or not all(1 <= n <= m for n, m in zip(blocks, most)):
    raise ValueError(
      'Expected three numbers of at least 1 and at most (2, 5, 2); got '
      f'blocks={blocks}; use (2, 5, 2) for the published network'
    )
  unit = functools.partial(
    Unit,
    norm=registry.lookup(_NORMS, norm, 'norm'),
    activation=registry.lookup(layers.ACTIVATIONS, activation, 'activation'),
  )
  spec = base.make_spec('googlenet', image_shape, num_classes, normalisation)
  dimensions.require_size(image_shape, 8 if stem == 'cifar' else 32)
  sizes = image_shape[2], num_classes, blocks, width
  make = functools.partial(GoogLeNet, *sizes, unit, dropout, stem)
  return from_nnx.from_nnx(lambda rngs: make(rngs=rngs), spec, lowering)
