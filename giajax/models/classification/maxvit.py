"""MaxViT: inverted residuals, then attention in windows and across a grid.

Tu et al., MaxViT: Multi-Axis Vision Transformer, ECCV 2022, arXiv 2204.01697.
Attribute names are torchvision's (`blocks.0.layers.0.layers.MBconv.layers.
conv_a.0`); so are the definition and the initial weights. Images need not be
square, but partitions must tile the map of every stage. The CIFAR form, for
images of up to 64 pixels, takes the first two of the five halvings out, those
of the stem and of the first block, and has partitions of 4 instead of 7 tokens
per side: at 32x32, stages of 32, 16, 8 and 4.
"""

from collections.abc import Callable, Sequence
import functools
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp

from giajax import registry
from giajax import types
from giajax.models import base
from giajax.models import dimensions
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models.parts import attention
from giajax.models.parts import blocks
from giajax.models.parts import initializers
from giajax.models.parts import norms
from giajax.models.parts import pools
from giajax.models.parts import window_attention

# Stride of the stem and of the first block, and partition, by option.
_STEMS = {'cifar': (1, 4), 'imagenet': (2, 7)}

_conv = functools.partial(
  layers.Conv, init=initializers.normal(0.02), bias_init=initializers.zeros
)
_linear = functools.partial(
  layers.Linear, init=initializers.normal(0.02), bias_init=initializers.zeros
)


class Style(NamedTuple):
  """What all layers of a network have in common."""

  norm: Callable[..., layers.Layer]  # of the convolutions
  activation: Callable[[types.Array], types.Array]
  head_dim: int
  partition: int
  dropout: float
  attention_dropout: float


class MBConv(nnx.Module):
  """An inverted residual of four times the width, normalised first."""

  def __init__(self, inputs, outputs, stride, rate, style, *, rngs):
    wide, conv = 4 * outputs, functools.partial(_conv, rngs=rngs)
    act, norm = style.activation, functools.partial(style.norm, rngs=rngs)
    project = [conv(inputs, outputs, 1)]
    same = stride == 1 and inputs == outputs
    self.proj = layers.Sequential(
      [] if same else project if stride == 1 else [_average_pool, *project]
    )
    widen = conv(inputs, wide, 1, bias=False)
    mix = conv(wide, wide, 3, stride, 1, groups=wide, bias=False)
    self.layers = nnx.Dict(
      pre_norm=norm(inputs),
      conv_a=layers.Sequential([widen, norm(wide), act]),
      conv_b=layers.Sequential([mix, norm(wide), act]),
      squeeze_excitation=blocks.SqueezeExcitation(
        wide,
        outputs // 4,
        jax.nn.silu,
        jax.nn.sigmoid,
        conv=functools.partial(_conv, size=1),
        rngs=rngs,
      ),
      conv_c=conv(wide, outputs, 1),
    )
    self.stochastic_depth = layers.Dropout(rate, rows=True)

  def __call__(self, x):
    """Maps [B, H, W, inputs] to [B, ceil(H / stride), ..., outputs]."""
    y = x
    steps = ('pre_norm', 'conv_a', 'conv_b', 'squeeze_excitation', 'conv_c')
    for step in steps:
      y = self.layers[step](y)
    return layers.residual(self.proj(x), self.stochastic_depth(y))


class PartitionAttention(nnx.Module):
  """Attention, then two linear layers, both after a norm and with a skip."""

  def __init__(self, dim, rate, style, *, rngs):
    norm = functools.partial(norms.LayerNorm, dim, rngs=rngs)
    self.attn_layer = layers.Sequential(
      [
        norm(),
        window_attention.RelativeAttention(
          dim, dim // style.head_dim, window=style.partition, rngs=rngs
        ),
        layers.Dropout(style.attention_dropout),
      ]
    )
    self.mlp_layer = layers.Sequential(
      [
        norm(),
        _linear(dim, 4 * dim, rngs=rngs),
        style.activation,
        _linear(4 * dim, dim, rngs=rngs),
        layers.Dropout(style.dropout),
      ]
    )
    self.drop1, self.drop2 = (layers.Dropout(rate, rows=True) for _ in range(2))

  def __call__(self, x):
    """Maps partitions [B, h, w, side^2, C] to the same shape."""
    x = layers.residual(x, self.drop1(self.attn_layer(x)))
    return layers.residual(x, self.drop2(self.mlp_layer(x)))


class MaxViTLayer(nnx.Module):
  """A convolution, attention within windows, attention across the grid."""

  def __init__(self, inputs, outputs, stride, rate, style, *, rngs):
    self.partition = style.partition
    self.layers = nnx.Dict(
      MBconv=MBConv(inputs, outputs, stride, rate, style, rngs=rngs),
      window_attention=PartitionAttention(outputs, rate, style, rngs=rngs),
      grid_attention=PartitionAttention(outputs, rate, style, rngs=rngs),
    )

  def __call__(self, x):
    """Maps [B, H, W, inputs] to [B, ceil(H / stride), ..., outputs]."""
    x = attention.windows(self.layers['MBconv'](x), self.partition)
    x = attention.unwindows(self.layers['window_attention'](x))
    x = attention.grids(x, self.partition)
    return attention.ungrids(self.layers['grid_attention'](x))


class Stage(nnx.Module):
  """Layers of one width."""

  def __init__(self, inputs, outputs, stride, rates, style, *, rngs):
    self.layers = layers.Sequential(
      [
        MaxViTLayer(
          outputs if i else inputs,
          outputs,
          1 if i else stride,
          rate,
          style,
          rngs=rngs,
        )
        for i, rate in enumerate(rates)
      ]
    )

  def __call__(self, x):
    """Maps [B, H, W, inputs] to [B, ceil(H / stride), ..., outputs]."""
    return self.layers(x)


class MaxViT(nnx.Module):
  """torchvision's MaxVit."""

  def __init__(
    self, channels, classes, width, depths, stride, rate, style, *, rngs
  ):
    first = _conv(channels, width, 3, stride, 1, bias=False, rngs=rngs)
    second = _conv(width, width, 3, 1, 1, rngs=rngs)
    norm = style.norm(width, rngs=rngs)
    self.stem = layers.Sequential(
      [
        layers.Sequential([first, norm, style.activation]),
        layers.Sequential([second]),
      ]
    )
    rates = iter(layers.depth_rates(rate, sum(depths)))
    inputs, stages = width, []
    for i, depth in enumerate(depths):
      shape = (inputs, width * 2**i, 2 if i else stride)
      own = [next(rates) for _ in range(depth)]
      stages.append(Stage(*shape, own, style, rngs=rngs))
      inputs = width * 2**i
    self.blocks = layers.Sequential(stages)
    self.classifier = layers.Sequential(
      [
        pools.global_average_pool,
        layers.identity,
        norms.LayerNorm(inputs, rngs=rngs),
        _linear(inputs, inputs, rngs=rngs),
        jnp.tanh,
        _linear(inputs, classes, bias=False, rngs=rngs),
      ]
    )

  def __call__(self, x):
    """Maps normalised images [B, H, W, C] to logits [B, K]."""
    return self.classifier(self.blocks(self.stem(x)))


def maxvit(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  *,
  width: int = 64,
  depths: Sequence[int] = (2, 2, 5, 2),
  head_dim: int = 32,
  stem: str | None = None,
  partition: int | None = None,
  norm: str = 'batch',
  activation: str = 'gelu',
  dropout: float = 0.0,
  attention_dropout: float = 0.0,
  stochastic_depth: float = 0.2,
  normalisation: str = 'imagenet',
  lowering: str = 'auto',
) -> base.Net:
  """MaxViT of any width and depth; MaxViT-T by default.

  Args:
    image_shape: (H, W, C).
    num_classes: size of the last layer.
    width: channels of the stem and of the first stage; each further stage has
      twice as many.
    depths: layers of each stage.
    head_dim: features of a head, a divisor of `width`.
    stem: 'imagenet', or 'cifar' without the first two halvings; by image size
      if None.
    partition: side of a window and of a grid, in tokens; by `stem` if None.
    norm: a name in `norms.NORMS`, of the convolutions.
    activation: a name in `layers.ACTIVATIONS`, of all but the gates.
    dropout: rate after the linear layers of each attention.
    attention_dropout: rate after each attention.
    stochastic_depth: rate of the last layer, in [0, 1), to which the rates rise
      from 0.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: no stage, a size below 1, a head_dim that does not divide the
      width, a map that partitions do not tile, a rate outside [0, 1), or an
      unknown name.
  """
  spec = base.make_spec('maxvit', image_shape, num_classes, normalisation)
  stride, usual = _STEMS[dimensions.image_form(image_shape, stem)]
  partition = usual if partition is None else partition
  sizes = (head_dim, partition, *depths)
  if not depths or min(sizes) < 1 or width < 4 or width % head_dim:
    raise ValueError(
      'Expected depths, partition, head_dim of at least 1 and a width of at '
      f'least 4 that head_dim divides; got depths={tuple(depths)}, '
      f'partition={partition}, head_dim={head_dim}, width={width}; correct them'
    )
  dimensions.require_blocks(depths, 'depths')
  _require_tiles(image_shape, stride, len(depths), partition)
  kind = registry.lookup(norms.NORMS, norm, 'norm')
  if norm == 'batch':
    kind = functools.partial(kind, momentum=0.01, epsilon=1e-3)
  act = registry.lookup(layers.ACTIVATIONS, activation, 'activation')
  style = Style(kind, act, head_dim, partition, dropout, attention_dropout)
  make = functools.partial(
    MaxViT,
    image_shape[2],
    num_classes,
    width,
    depths,
    stride,
    stochastic_depth,
    style,
  )
  return from_nnx.from_nnx(lambda rngs: make(rngs=rngs), spec, lowering)


def _require_tiles(image_shape, stride, stages, partition):
  """Raises ValueError unless partitions tile the map of each stage."""
  size = [-(-n // stride) for n in image_shape[:2]]
  for i in range(stages):
    size = [-(-n // (2 if i else stride)) for n in size]
    if any(n % partition for n in size):
      raise ValueError(
        f'Expected stages whose sides are multiples of partition={partition}; '
        f'got {size[0]}x{size[1]} in stage {i} of image_shape={image_shape}; '
        'change the images, the partition or the stem'
      )


def _average_pool(x):
  """Means of 3x3 pixels at stride 2, zeros around the image included."""
  for axis in (1, 2):
    config = [(0, 0)] * 4
    config[axis] = (1, 1)
    x = jnp.pad(x, config)
    stop = x.shape[axis] - 2
    slices = [jax.lax.slice_in_dim(x, i, stop + i, 2, axis) for i in range(3)]
    x = sum(slices[1:], slices[0]) / 3
  return x
