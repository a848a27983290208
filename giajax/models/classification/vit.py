"""ViT: a transformer over the patches of an image, and a class token.

Dosovitskiy et al., An Image Is Worth 16x16 Words, ICLR 2021, arXiv 2010.11929;
the tiny and the small form are those of Touvron et al., Training Data-efficient
Image Transformers & Distillation through Attention, ICML 2021, arXiv
2012.12877. Attribute names are torchvision's (`encoder.layers.encoder_layer_0.
self_attention.in_proj`), and so are the definition and, by default, the initial
weights. Images need not be square. The CIFAR form, for images of up to 64
pixels, has patches of 4 pixels instead of 16 and is the same otherwise.

`bare_first_attention` makes the network of Lu et al., APRIL, CVPR 2022, arXiv
2112.14087, whose first attention reads the tokens as they are.

With torchvision's initial weights the head is zero, so that until the first
step only the head has a gradient; `init='timm'` draws it.
"""

from collections.abc import Callable
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

# Initialisers of linear layers, by option.
_INITS = {'timm': initializers.truncated_normal(0.02), 'torchvision': None}


class Shape(NamedTuple):
  """What all blocks of a ViT have in common."""

  dim: int
  heads: int
  hidden: int  # features between the linear layers of a block
  activation: Callable[[types.Array], types.Array]
  dropout: float
  attention_dropout: float
  rank: int  # the rank of the adapters, 0 for none
  init: Callable[..., types.Array] | None


class EncoderBlock(nnx.Module):
  """Attention, then two linear layers, both after a norm and with a skip.

  Args:
    shape: what all blocks have in common.
    bare: whether the attention goes without its norm and its skip.
    rngs: the source of the initial weights.
  """

  def __init__(self, shape: Shape, *, bare: bool = False, rngs: nnx.Rngs):
    dim = shape.dim
    self.bare = bare
    if not bare:
      self.ln_1 = norms.LayerNorm(dim, epsilon=1e-6, rngs=rngs)
    self.self_attention = attention.SelfAttention(
      dim,
      shape.heads,
      dropout=shape.attention_dropout,
      rank=shape.rank,
      init=shape.init,
      rngs=rngs,
    )
    self.dropout = layers.Dropout(shape.dropout)
    self.ln_2 = norms.LayerNorm(dim, epsilon=1e-6, rngs=rngs)
    self.mlp = attention.perceptron(
      dim,
      shape.hidden,
      shape.activation,
      dropout=shape.dropout,
      init=shape.init or initializers.xavier_uniform,
      bias_init=initializers.normal(1e-6),
      rngs=rngs,
    )

  def __call__(self, x):
    """Maps tokens [B, T, D] to the same shape."""
    if self.bare:
      x = self.dropout(self.self_attention(x))
    else:
      branch = self.dropout(self.self_attention(self.ln_1(x)))
      x = layers.residual(x, branch)
    return layers.residual(x, self.mlp(self.ln_2(x)))


class Encoder(nnx.Module):
  """Learned positions, the blocks, and a last norm."""

  def __init__(
    self,
    tokens: int,
    depth: int,
    shape: Shape,
    *,
    bare: bool,
    rngs: nnx.Rngs,
  ):
    position = initializers.normal(0.02)(rngs.params(), (1, tokens, shape.dim))
    self.pos_embedding = layers.Parameter(position)
    self.dropout = layers.Dropout(shape.dropout)
    self.layers = nnx.Dict(
      {
        f'encoder_layer_{i}': EncoderBlock(
          shape, bare=bare and i == 0, rngs=rngs
        )
        for i in range(depth)
      }
    )
    self.ln = norms.LayerNorm(shape.dim, epsilon=1e-6, rngs=rngs)

  def __call__(self, x):
    """Maps tokens [B, T, D] to the same shape."""
    x = self.dropout(x + self.pos_embedding())
    for i in range(len(self.layers)):
      x = self.layers[f'encoder_layer_{i}'](x)
    return self.ln(x)


class ViT(nnx.Module):
  """torchvision's VisionTransformer."""

  def __init__(self, image_shape, classes, patch, depth, shape, bare, *, rngs):
    h, w, channels = image_shape
    self.conv_proj = layers.Conv(
      channels,
      shape.dim,
      patch,
      patch,
      init=initializers.truncated_normal((channels * patch**2) ** -0.5),
      bias_init=initializers.zeros,
      rngs=rngs,
    )
    self.class_token = layers.Parameter(jnp.zeros((1, 1, shape.dim)))
    tokens = 1 + (h // patch) * (w // patch)
    self.encoder = Encoder(tokens, depth, shape, bare=bare, rngs=rngs)
    head = layers.Linear(
      shape.dim,
      classes,
      init=shape.init or initializers.zeros,
      bias_init=initializers.zeros,
      rngs=rngs,
    )
    self.heads = nnx.Dict(head=head)

  def __call__(self, x):
    """Maps normalised images [B, H, W, C] to logits [B, K]."""
    x = self.conv_proj(x)
    batch, dim = x.shape[0], x.shape[-1]
    token = jnp.broadcast_to(self.class_token(), (batch, 1, dim))
    x = jnp.concatenate([token, x.reshape(batch, -1, dim)], axis=1)
    return self.heads['head'](self.encoder(x)[:, 0])


def vit(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  *,
  width: int = 768,
  depth: int = 12,
  heads: int = 12,
  hidden: float = 4,
  patch: int | None = None,
  activation: str = 'gelu',
  dropout: float = 0.0,
  attention_dropout: float = 0.0,
  lora_rank: int = 0,
  bare_first_attention: bool = False,
  init: str = 'torchvision',
  normalisation: str = 'imagenet',
  lowering: str = 'auto',
) -> base.Net:
  """Vision transformer of any width and depth; ViT-base by default.

  Args:
    image_shape: (H, W, C), H and W multiples of `patch`.
    num_classes: size of the last layer.
    width: features of a token.
    depth: number of blocks.
    heads: the number of heads of each attention, a divisor of `width`.
    hidden: features between a block's linear layers, as a multiple of `width`.
    patch: side of a patch; by image size, 4 or 16, if None.
    activation: a name in `layers.ACTIVATIONS`.
    dropout: rate after the positions and each branch's linear layers.
    attention_dropout: rate of the attention weights.
    lora_rank: the rank of an adapter on the fused queries, keys and values of
      each block (Hu et al., LoRA, 2021, arXiv 2106.09685), `in_proj.lora_a` and
      `in_proj.lora_b`; 0 for none.
    bare_first_attention: whether the first attention goes without the norm in
      front of it and the skip around it; the architecture then counts as
      altered.
    init: 'torchvision', or 'timm' for linear layers, the head too, of standard
      deviation 0.02.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: a size below 1, images that patches do not tile, heads that do
      not divide the width, a rate outside [0, 1), or an unknown name.
  """
  if patch is None:
    patch = 4 if dimensions.is_small(image_shape) else 16
  spec = base.make_spec('vit', image_shape, num_classes, normalisation)
  size = int(hidden * width)
  if min(width, depth, heads, size, patch) < 1 or lora_rank < 0:
    raise ValueError(
      'Expected width, depth, heads, hidden * width and patch of at least 1, '
      f'lora_rank of at least 0; got width={width}, depth={depth}, '
      f'heads={heads}, hidden={hidden}, patch={patch}, lora_rank={lora_rank}; '
      'correct them'
    )
  dimensions.require_blocks([depth], 'depth')
  if width % heads:
    raise ValueError(
      f'Expected heads that divide the width; got heads={heads}, '
      f'width={width}; change one of them'
    )
  if any(side % patch for side in image_shape[:2]):
    raise ValueError(
      f'Expected images that patches tile; got image_shape={image_shape}, '
      f'patch={patch}; change one of them'
    )
  shape = Shape(
    width,
    heads,
    size,
    registry.lookup(layers.ACTIVATIONS, activation, 'activation'),
    dropout,
    attention_dropout,
    lora_rank,
    registry.lookup(_INITS, init, 'init'),
  )
  bare = bare_first_attention
  return from_nnx.from_nnx(
    lambda rngs: ViT(
      image_shape, num_classes, patch, depth, shape, bare, rngs=rngs
    ),
    spec._replace(altered=bare),
    lowering,
  )
