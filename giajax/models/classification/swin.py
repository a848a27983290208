"""Swin: transformers whose tokens attend within windows, every other shifted.

Version 1: Liu et al., Swin Transformer: Hierarchical Vision Transformer Using
Shifted Windows, ICCV 2021, arXiv 2103.14030. Version 2: Liu et al., Swin
Transformer V2: Scaling Up Capacity and Resolution, CVPR 2022, arXiv 2111.09883;
its attention is by cosine, its position bias comes from two linear layers, and
its norms come after the branches.

Attribute names are torchvision's (`features.1.0.attn.qkv`); so are the
definition and the initial weights. As there, a map that windows do not tile is
padded with zeros, which take part in the attention, and an axis of one window
is not shifted. The CIFAR form, for images of up to 64 pixels, has windows of 4
tokens per side instead of 7 (8 in version 2), and the same patches of 4 pixels:
at 32x32, stages of 8, 4, 2 and 1 tokens per side, of which the last two are
padded. `patch=2` doubles them.
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
from giajax.models.parts import attention
from giajax.models.parts import initializers
from giajax.models.parts import norms
from giajax.models.parts import pools
from giajax.models.parts import window_attention

_WINDOWS = {1: 7, 2: 8}  # by version, at 224x224 and 256x256

_linear = functools.partial(
  layers.Linear,
  init=initializers.truncated_normal(0.02),
  bias_init=initializers.zeros,
)


class Style(NamedTuple):
  """What all blocks of a network have in common."""

  version: int
  head_dim: int
  activation: Callable[[types.Array], types.Array]
  dropout: float
  attend: Callable[..., nnx.Module]  # (dim, heads, *, shift, rngs) -> module


class Block(nnx.Module):
  """Attention, then two linear layers, each with a norm and a skip."""

  def __init__(self, dim, shift, rate, style, *, rngs):
    self.norm1 = norms.LayerNorm(dim, rngs=rngs)
    heads = dim // style.head_dim
    self.attn = style.attend(dim, heads, shift=shift, rngs=rngs)
    self.norm2 = norms.LayerNorm(dim, rngs=rngs)
    self.mlp = attention.perceptron(
      dim,
      4 * dim,
      style.activation,
      dropout=style.dropout,
      init=initializers.truncated_normal(0.02),
      rngs=rngs,
    )
    self.drop1, self.drop2 = (layers.Dropout(rate, rows=True) for _ in range(2))
    self.norm_last = style.version == 2

  def __call__(self, x):
    """Maps [B, H, W, C] to the same shape."""
    if self.norm_last:
      x = layers.residual(x, self.drop1(self.norm1(self.attn(x))))
      return layers.residual(x, self.drop2(self.norm2(self.mlp(x))))
    x = layers.residual(x, self.drop1(self.attn(self.norm1(x))))
    return layers.residual(x, self.drop2(self.mlp(self.norm2(x))))


class Merging(nnx.Module):
  """Four neighbouring tokens become one of twice the width."""

  def __init__(self, dim: int, version: int, *, rngs: nnx.Rngs):
    self.reduction = _linear(4 * dim, 2 * dim, bias=False, rngs=rngs)
    self.norm_last = version == 2
    width = 2 * dim if self.norm_last else 4 * dim
    self.norm = norms.LayerNorm(width, rngs=rngs)

  def __call__(self, x):
    """Maps [B, H, W, C] to [B, ceil(H / 2), ceil(W / 2), 2 C]."""
    b, h, w, c = x.shape
    x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
    x = x.reshape(b, (h + 1) // 2, 2, (w + 1) // 2, 2, c)
    x = x.transpose(0, 1, 3, 4, 2, 5)  # the row is the inner index
    x = x.reshape(*x.shape[:3], 4 * c)
    if self.norm_last:
      return self.norm(self.reduction(x))
    return self.reduction(self.norm(x))


class Swin(nnx.Module):
  """torchvision's SwinTransformer."""

  def __init__(
    self, channels, classes, patch, width, depths, shift, rate, style, *, rngs
  ):
    embed = layers.Conv(channels, width, patch, patch, rngs=rngs)
    norm = norms.LayerNorm(width, rngs=rngs)
    features: list[nnx.Module] = [
      layers.Sequential([embed, layers.identity, norm])
    ]
    rates = iter(layers.depth_rates(rate, sum(depths)))
    for i, depth in enumerate(depths):
      if i:
        features.append(Merging(width, style.version, rngs=rngs))
        width *= 2
      shifts = [shift * (j % 2) for j in range(depth)]
      features.append(
        layers.Sequential(
          [Block(width, s, next(rates), style, rngs=rngs) for s in shifts]
        )
      )
    self.features = layers.Sequential(features)
    self.norm = norms.LayerNorm(width, rngs=rngs)
    self.head = _linear(width, classes, rngs=rngs)

  def __call__(self, x):
    """Maps normalised images [B, H, W, C] to logits [B, K]."""
    x = self.norm(self.features(x))
    return self.head(pools.global_average_pool(x))


def swin(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  *,
  version: int = 1,
  width: int = 96,
  depths: Sequence[int] = (2, 2, 6, 2),
  head_dim: int = 32,
  patch: int = 4,
  window: int | None = None,
  activation: str = 'gelu',
  dropout: float = 0.0,
  attention_dropout: float = 0.0,
  stochastic_depth: float = 0.2,
  normalisation: str = 'imagenet',
  lowering: str = 'auto',
) -> base.Net:
  """Swin transformer of any width and depth; Swin-T by default.

  Args:
    image_shape: (H, W, C).
    num_classes: size of the last layer.
    version: 1 or 2.
    width: features of a token of the first stage; each further stage has twice
      as many.
    depths: blocks of each stage.
    head_dim: features of a head, a divisor of `width`.
    patch: side of a patch, in pixels.
    window: side of a window, in tokens; by image size and version if None.
    activation: a name in `layers.ACTIVATIONS`.
    dropout: rate after each linear layer of a block except the first.
    attention_dropout: rate of the attention weights.
    stochastic_depth: rate of the last block, in [0, 1), to which the rates rise
      from 0.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: an unknown version, activation or normalisation, no stage, a
      size below 1, a window below 2, a head_dim that does not divide the width,
      an image smaller than a patch, or a rate outside [0, 1).
  """
  name = 'swin' if version == 1 else f'swin_v{version}'
  spec = base.make_spec(name, image_shape, num_classes, normalisation)
  if version not in _WINDOWS:
    raise ValueError(
      f'Expected version 1 or 2; got version={version}; use one of them'
    )
  if window is None:
    window = 4 if dimensions.is_small(image_shape) else _WINDOWS[version]
  sizes = (width, head_dim, patch, *depths)
  if not depths or min(sizes) < 1 or width % head_dim or window < 2:
    raise ValueError(
      'Expected depths, patch, width and a head_dim that divides it, all at '
      f'least 1, and a window of at least 2; got depths={tuple(depths)}, '
      f'patch={patch}, width={width}, head_dim={head_dim}, window={window}; '
      'correct them'
    )
  dimensions.require_blocks(depths, 'depths')
  if min(image_shape[:2]) < patch:
    raise ValueError(
      f'Expected images of at least {patch}x{patch} pixels; got '
      f'image_shape={image_shape}; use larger ones or a smaller patch'
    )
  attend = functools.partial(
    window_attention.WindowAttention,
    window=window,
    cosine=version == 2,
    dropout=dropout,
    attention_dropout=attention_dropout,
  )
  act = registry.lookup(layers.ACTIVATIONS, activation, 'activation')
  style = Style(version, head_dim, act, dropout, attend)
  make = functools.partial(
    Swin,
    image_shape[2],
    num_classes,
    patch,
    width,
    depths,
    window // 2,
    stochastic_depth,
    style,
  )
  return from_nnx.from_nnx(lambda rngs: make(rngs=rngs), spec, lowering)
