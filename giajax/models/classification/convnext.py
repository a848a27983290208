"""ConvNeXt: convolutions arranged as a vision transformer arranges attention.

Liu et al., A ConvNet for the 2020s, CVPR 2022, arXiv 2201.03545. Attribute
names are torchvision's (`features.1.0.block.3`), whose steps without parameters
keep their numbers; so are the definition and the initial weights. The CIFAR
form, for images of up to 64 pixels, has the stem of the CIFAR ResNets, a 3x3
convolution of stride 1, in place of patches of 4 pixels.

The ablations of the feasibility study (Valadi et al., arXiv 2508.19819) are
options: the norm after the pointwise layers, as in a ResNet, instead of in
front of them; another kind of norm; the small stem; no skip. Behind the pool
the norm is always LayerNorm, because BatchNorm would have one value per image
there.
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

# Size, stride and padding of the first convolution.
_STEMS = {'cifar': (3, 1, 1), 'patch': (4, 4, 0)}
_PLACEMENTS = {'after': False, 'before': True}

_conv = functools.partial(
  layers.Conv,
  init=initializers.truncated_normal(0.02),
  bias_init=initializers.zeros,
)
_linear = functools.partial(
  layers.Linear,
  init=initializers.truncated_normal(0.02),
  bias_init=initializers.zeros,
)


class Style(NamedTuple):
  """What all blocks of a network have in common."""

  norm: Callable[..., layers.Layer]
  before: bool  # the norm stands in front of the pointwise layers
  activation: Callable[[types.Array], types.Array]
  layer_scale: float
  skip: bool


class Block(nnx.Module):
  """A depthwise 7x7 convolution, two linear layers, and a skip."""

  def __init__(self, dim: int, rate: float, style: Style, *, rngs: nnx.Rngs):
    depthwise = _conv(dim, dim, 7, 1, 3, groups=dim, rngs=rngs)
    norm = style.norm(dim, rngs=rngs)
    pointwise = [
      _linear(dim, 4 * dim, rngs=rngs),
      style.activation,
      _linear(4 * dim, dim, rngs=rngs),
    ]
    parts = [norm, *pointwise] if style.before else [*pointwise, norm]
    self.block = layers.Sequential(
      [depthwise, layers.identity, *parts, layers.identity]
    )
    scale = jnp.full((dim, 1, 1), style.layer_scale)
    self.layer_scale = layers.Parameter(scale)
    self.stochastic_depth = layers.Dropout(rate, rows=True)
    self.skip = style.skip

  def __call__(self, x):
    """Maps [B, H, W, C] to the same shape."""
    y = self.block(x) * self.layer_scale().reshape(-1)
    y = self.stochastic_depth(y)
    return layers.residual(x, y) if self.skip else y


class ConvNeXt(nnx.Module):
  """torchvision's ConvNeXt."""

  def __init__(
    self, channels, classes, width, depths, stem, rate, style, *, rngs
  ):
    first = _conv(channels, width, *_STEMS[stem], rngs=rngs)
    features = [layers.Sequential([first, style.norm(width, rngs=rngs)])]
    rates = iter(layers.depth_rates(rate, sum(depths)))
    for i, depth in enumerate(depths):
      if i:
        shrink = _conv(width, 2 * width, 2, 2, rngs=rngs)
        norm = style.norm(width, rngs=rngs)
        features.append(layers.Sequential([norm, shrink]))
        width *= 2
      features.append(
        layers.Sequential(
          [Block(width, next(rates), style, rngs=rngs) for _ in range(depth)]
        )
      )
    self.features = layers.Sequential(features)
    self.classifier = layers.Sequential(
      [
        norms.LayerNorm(width, epsilon=1e-6, rngs=rngs),
        layers.flatten,
        _linear(width, classes, rngs=rngs),
      ]
    )

  def __call__(self, x):
    """Maps normalised images [B, H, W, C] to logits [B, K]."""
    x = self.features(x).mean((1, 2), keepdims=True)
    return self.classifier(x)


def convnext(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  *,
  width: int = 96,
  depths: Sequence[int] = (3, 3, 9, 3),
  stem: str | None = None,
  norm: str = 'layer',
  placement: str = 'before',
  skip: bool = True,
  activation: str = 'gelu',
  layer_scale: float = 1e-6,
  stochastic_depth: float = 0.1,
  normalisation: str = 'imagenet',
  lowering: str = 'auto',
) -> base.Net:
  """ConvNeXt of any width and depth, tiny by default.

  Args:
    image_shape: (H, W, C).
    num_classes: size of the last layer.
    width: channels of the first stage; each further stage has twice as many.
    depths: blocks of each stage.
    stem: 'cifar' (3x3, stride 1) or 'patch' (4x4, stride 4); by image size if
      None.
    norm: a name in `norms.NORMS`, of all norms but the classifier's.
    placement: the placement of a block's norm, 'before' the pointwise layers or
      'after'.
    skip: whether blocks have a skip connection.
    activation: a name in `layers.ACTIVATIONS`.
    layer_scale: first value of each block's scale.
    stochastic_depth: rate of the last block, in [0, 1), to which the rates rise
      from 0.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: no stage, a size below 1, an image smaller than the network's
      reduction, a rate outside [0, 1), or an unknown name.
  """
  if stem is None:
    stem = 'cifar' if dimensions.is_small(image_shape) else 'patch'
  spec = base.make_spec('convnext', image_shape, num_classes, normalisation)
  _, stride, _ = registry.lookup(_STEMS, stem, 'stem')
  if not depths or min(width, *depths) < 1:
    raise ValueError(
      'Expected width and depths of at least 1; got '
      f'width={width}, depths={tuple(depths)}; correct them'
    )
  dimensions.require_blocks(depths, 'depths')
  least = stride * 2 ** (len(depths) - 1)
  if min(image_shape[:2]) < least:
    raise ValueError(
      f'Expected images of at least {least}x{least} pixels; got '
      f"image_shape={image_shape}; use larger ones or stem='cifar'"
    )
  kind = registry.lookup(norms.NORMS, norm, 'norm')
  if norm == 'layer':
    kind = functools.partial(kind, epsilon=1e-6)
  style = Style(
    kind,
    registry.lookup(_PLACEMENTS, placement, 'placement'),
    registry.lookup(layers.ACTIVATIONS, activation, 'activation'),
    layer_scale,
    skip,
  )
  return from_nnx.from_nnx(
    lambda rngs: ConvNeXt(
      image_shape[2],
      num_classes,
      width,
      depths,
      stem,
      stochastic_depth,
      style,
      rngs=rngs,
    ),
    spec,
    lowering,
  )
