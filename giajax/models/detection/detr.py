"""DETR: a ResNet, a transformer, and a prediction for each learned query.

Carion et al., End-to-End Object Detection with Transformers, ECCV 2020, arXiv
2005.12872. Attribute names are those of the authors' weights (`backbone.0.body.
layer1.0.conv1`, `transformer.decoder.layers.0.multihead_attn.in_proj_weight`,
`query_embed.weight`), and so are the definition and the initial weights.

The output is `{'boxes': [B, L, Q, 4], 'scores': [B, L, Q, K + 1]}`: boxes as
centre, width and height in [0, 1], and logits whose last class is nothing, of
those L decoder layers that have a loss; the last one is the prediction.

All images have one size, so that no pixel is masked. Positions are sines, not
parameters, and are added to queries and keys, never to values. A projection
reads tokens with and without them one after another, in one call, and what
nobody needs of its output is left: matching by moments asks that a layer is
used once, and so covers all parameters.

Without a decoder, each cell of the last feature map has a prediction in the
place of a query, and without an encoder as well, positions are used nowhere.
These forms are not in the paper; LeakPro's example of DETR has them, to say
what the transformer contributes. Its smaller networks, from 28.9 to 2.9 million
parameters at 91 classes, are options of this one:

  r18             depth=18, batch_norm='trained', dropout=0.0, auxiliary=False
  r18-s3          and stages=3
  r18-shallow     r18 and encoder_layers=1, decoder_layers=1, width=128,
                  heads=4, hidden=4
  r18-shallow-s3  and stages=3
  r18-nodec       and decoder_layers=0
  r18-notrans     and encoder_layers=0

The authors' weights have 91 classes, the raw numbers of COCO up to 90, and so
92 logits; `convert` reads them by these names.

Of some parameters the update says nothing. The first decoder layer starts from
zeros, so that its attention to itself has the same value at each query:
`transformer.decoder.layers.0.self_attn.in_proj_weight` has gradient zero, and
`out_proj.weight` until `in_proj_bias` has moved. The norms of the backbone are
not trained unless `batch_norm='trained'`. The authors do not train `conv1` and
`layer1` either:

  subset.subset(net, freeze=['backbone.0.body.conv1.*',
                             'backbone.0.body.layer1.*'])
"""

import functools
import itertools
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from giajax import registry
from giajax import types
from giajax.models import base
from giajax.models import dimensions
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models import subset
from giajax.models.classification import resnet
from giajax.models.parts import attention
from giajax.models.parts import initializers
from giajax.models.parts import norms

# Blocks per stage of the backbones.
_BLOCKS = {d: blocks for d, blocks in resnet.BLOCKS.items() if len(blocks) == 4}
# Whether the backbone's norms stay as they are.
_BATCH_NORMS = {'frozen': True, 'trained': False}
_TEMPERATURE = 10000.0


class Shape(NamedTuple):
  """What all layers of a transformer have in common."""

  dim: int
  heads: int
  hidden: int  # features between the linear layers
  dropout: float


class Attention(nnx.Module):
  """torch.nn.MultiheadAttention between any tokens.

  Args:
    shape: what all layers have in common.
    rngs: the source of the initial weights.
  """

  def __init__(self, shape: Shape, *, rngs: nnx.Rngs):
    self.heads = shape.heads
    linear = functools.partial(
      layers.Linear,
      init=initializers.xavier_uniform,
      bias_init=initializers.zeros,
      rngs=rngs,
    )
    self.in_proj = linear(shape.dim, 3 * shape.dim)
    self.out_proj = linear(shape.dim, shape.dim)
    self.dropout = layers.Dropout(shape.dropout)

  def __call__(
    self, queries: types.Array, keys: types.Array, values: types.Array
  ) -> types.Array:
    """Returns what each query gathers from the values, [B, T, D].

    Args:
      queries: [B, T, D] tokens.
      keys: [B, S, D]; they are projected once if they are the queries.
      values: [B, S, D].
    """
    same = queries is keys
    read = [queries, values] if same else [queries, keys, values]
    y = self.in_proj(jnp.concatenate(read, axis=1))
    ends = np.cumsum([tokens.shape[1] for tokens in read])[:-1]
    parts = jnp.split(y, ends, axis=1)
    q, k, v = (
      attention.split(part, self.heads)[i]
      for i, part in enumerate([parts[0], *parts] if same else parts)
    )
    q = q * q.shape[-1] ** -0.5
    return self.out_proj(attention.attend(q, k, v, dropout=self.dropout))


class Layer(nnx.Module):
  """A layer of the encoder, or of the decoder, which also reads a memory.

  Each branch, the attentions and two linear layers, has a norm behind its skip.

  Args:
    shape: what all layers have in common.
    decodes: whether it is one of the decoder.
    rngs: the source of the initial weights.
  """

  def __init__(self, shape: Shape, *, decodes: bool, rngs: nnx.Rngs):
    self.branches = 3 if decodes else 2
    self.self_attn = Attention(shape, rngs=rngs)
    if decodes:
      self.multihead_attn = Attention(shape, rngs=rngs)
    linear = functools.partial(
      layers.Linear, init=initializers.xavier_uniform, rngs=rngs
    )
    self.linear1 = linear(shape.dim, shape.hidden)
    self.linear2 = linear(shape.hidden, shape.dim)
    self.dropout = layers.Dropout(shape.dropout)
    for i in range(1, self.branches + 1):
      setattr(self, f'norm{i}', norms.LayerNorm(shape.dim, rngs=rngs))
      setattr(self, f'dropout{i}', layers.Dropout(shape.dropout))

  def __call__(
    self,
    x: types.Array,
    positions: types.Array,
    memory: tuple[types.Array, types.Array] | None = None,
  ) -> types.Array:
    """Maps tokens [B, T, D] to the same shape.

    Args:
      x: the tokens.
      positions: what is added to queries and keys, [T, D] or [B, T, D].
      memory: keys and values [B, S, D] of a decoder's layer.
    """
    placed = x + positions
    x = self._behind(1, x, self.self_attn(placed, placed, x))
    if memory is not None:
      x = self._behind(2, x, self.multihead_attn(x + positions, *memory))
    y = self.dropout(jax.nn.relu(self.linear1(x)))
    return self._behind(self.branches, x, self.linear2(y))

  def _behind(self, i, x, branch):
    """Returns the norm of a sum of tokens and the branch i."""
    branch = getattr(self, f'dropout{i}')(branch)
    return getattr(self, f'norm{i}')(layers.residual(x, branch))


class Encoder(nnx.Module):
  """Layers one after another."""

  def __init__(self, depth: int, shape: Shape, *, rngs: nnx.Rngs):
    self.layers = nnx.List(
      [Layer(shape, decodes=False, rngs=rngs) for _ in range(depth)]
    )

  def __call__(self, x: types.Array, positions: types.Array) -> types.Array:
    """Maps tokens [B, T, D] to the same shape."""
    for layer in self.layers:
      x = layer(x, positions)
    return x


class Decoder(nnx.Module):
  """Layers one after another, each of which has a reading of its own.

  Args:
    depth: the number of layers.
    shape: what all of them have in common.
    auxiliary: whether all layers are read, or the last one only.
    rngs: the source of the initial weights.
  """

  def __init__(
    self, depth: int, shape: Shape, *, auxiliary: bool, rngs: nnx.Rngs
  ):
    self.auxiliary = auxiliary
    self.layers = nnx.List(
      [Layer(shape, decodes=True, rngs=rngs) for _ in range(depth)]
    )
    self.norm = norms.LayerNorm(shape.dim, rngs=rngs)

  def __call__(
    self,
    queries: types.Array,
    memory: types.Array,
    positions: types.Array,
  ) -> types.Array:
    """Returns what is read of queries [B, Q, D] in L layers, [B, L, Q, D]."""
    x, read = jnp.zeros_like(queries), []
    pair = (memory + positions, memory)
    for layer in self.layers:
      x = layer(x, queries, pair)
      read.append(x)
    # One call of the norm: a layer is used once.
    return self.norm(jnp.stack(read if self.auxiliary else read[-1:], axis=1))


class Perceptron(nnx.Module):
  """Linear layers with ReLUs between them, the head of the boxes."""

  def __init__(self, sizes: tuple[int, ...], *, rngs: nnx.Rngs):
    self.layers = nnx.List(
      [layers.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)]
    )

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [..., first size] to [..., last size]."""
    for i, layer in enumerate(self.layers):
      x = layer(jax.nn.relu(x) if i else x)
    return x


class Transformer(nnx.Module):
  """An encoder and a decoder, either of which may have no layers."""

  def __init__(self, depths, shape, *, auxiliary, rngs):
    encoder, decoder = depths
    self.encoder = Encoder(encoder, shape, rngs=rngs)
    self.decoder = (
      Decoder(decoder, shape, auxiliary=auxiliary, rngs=rngs)
      if decoder
      else None
    )

  def __call__(self, x, positions, queries):
    """Maps tokens [B, T, D] and queries [Q, D] or None to [B, L, Q, D]."""
    x = self.encoder(x, positions)
    if self.decoder is None:
      return x[:, None]
    queries = jnp.broadcast_to(queries, (len(x), *queries.shape))
    return self.decoder(queries, x, positions)


class Detr(nnx.Module):
  """The backbone, the transformer and the two heads."""

  def __init__(self, body, classes, queries, depths, shape, *, auxiliary, rngs):
    dim = shape.dim
    self.backbone = nnx.List([nnx.Dict(body=body)])
    self.input_proj = layers.Conv(body.outputs, dim, 1, rngs=rngs)
    self.transformer = Transformer(
      depths, shape, auxiliary=auxiliary, rngs=rngs
    )
    draw = initializers.normal(1.0)
    self.query_embed = (
      nnx.Dict(weight=layers.Parameter(draw(rngs.params(), (queries, dim))))
      if depths[1]
      else None
    )
    self.bbox_embed = Perceptron((dim, dim, dim, 4), rngs=rngs)
    self.class_embed = layers.Linear(dim, classes + 1, rngs=rngs)

  def __call__(self, x: types.Array) -> dict[str, types.Array]:
    """Maps normalised images [B, H, W, C] to boxes and scores."""
    x = self.input_proj(self.backbone[0]['body'].features(x))
    batch, height, width, dim = x.shape
    positions = jnp.asarray(sines(height, width, dim), x.dtype)
    queries = self.query_embed
    queries = None if queries is None else queries['weight']()
    x = self.transformer(x.reshape(batch, -1, dim), positions, queries)
    # The classes last: the last linear layer counts as the classifier.
    boxes = jax.nn.sigmoid(self.bbox_embed(x))
    return {'boxes': boxes, 'scores': self.class_embed(x)}


def sines(height: int, width: int, dim: int) -> np.ndarray:
  """Returns the positions of the cells of a map, row by row.

  Half of the features are of the row and half of the column, each counted from
  1 and as a share of a full turn; of each half, sine and cosine alternate at
  wavelengths that grow from one turn to 10,000.

  Args:
    height: the number of rows.
    width: the number of columns.
    dim: the number of features D, a multiple of 4.

  Returns:
    [height * width, D] float64.
  """
  half = dim // 2
  pairs = np.arange(half // 2)
  rates = _TEMPERATURE ** (-2 * pairs / half)

  def along(count):
    turns = 2 * np.pi * np.arange(1, count + 1) / (count + 1e-6)
    angles = turns[:, None] * rates
    both = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    return both.reshape(count, half)

  rows, columns = along(height), along(width)
  shape = (height, width, half)
  return np.concatenate(
    [
      np.broadcast_to(rows[:, None], shape),
      np.broadcast_to(columns[None], shape),
    ],
    axis=-1,
  ).reshape(height * width, dim)


def detr(
  image_shape: tuple[int, int, int] = (256, 256, 3),
  num_classes: int = 91,
  *,
  depth: int = 50,
  stages: int = 4,
  backbone_width: float = 1,
  batch_norm: str = 'frozen',
  encoder_layers: int = 6,
  decoder_layers: int = 6,
  width: int = 256,
  heads: int = 8,
  hidden: float = 8,
  queries: int = 100,
  dropout: float = 0.1,
  auxiliary: bool = True,
  normalisation: str = 'imagenet',
  lowering: str = 'auto',
) -> base.Net:
  """DETR with any ResNet and transformer; DETR-R50 by default.

  Args:
    image_shape: (H, W, C).
    num_classes: the number of classes K, without the one for nothing.
    depth: the depth of the ResNet: 18, 34, 50, 101 or 152.
    stages: how many of its stages there are, from 1 to 4; the last map is by
      2^(stages + 1) smaller than the images.
    backbone_width: factor of its channels.
    batch_norm: 'frozen', where the norms of the ResNet are not trained and
      always use their running statistics, or 'trained'.
    encoder_layers: the number of layers of the encoder.
    decoder_layers: the number of layers of the decoder; with 0, each cell of
      the last map has a prediction.
    width: features D of a token, a multiple of 4.
    heads: the number of heads of each attention, a divisor of `width`.
    hidden: features between a layer's linear layers, as a multiple of `width`.
    queries: Q, the number of predictions, if there is a decoder.
    dropout: rate of the attention weights, after each branch, and between its
      linear layers.
    auxiliary: whether the earlier decoder layers have predictions and a loss
      too, so that L is `decoder_layers`; else L is 1.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: a size out of its range, images that are too small, heads that
      do not divide the width, a rate outside [0, 1), or an unknown name.
  """
  frozen = registry.lookup(_BATCH_NORMS, batch_norm, 'batch_norm')
  if depth not in _BLOCKS or not 1 <= stages <= 4:
    raise ValueError(
      f'Expected depth in {[*_BLOCKS]} and 1 to 4 stages; got depth={depth}, '
      f'stages={stages}; correct them'
    )
  shape = Shape(width, heads, int(hidden * width), dropout)
  depths = (encoder_layers, decoder_layers)
  _check(shape, depths, queries)
  dimensions.require_size(image_shape, 2 ** (stages + 1))
  name = f'detr_resnet{depth}'
  spec = base.make_spec(name, image_shape, num_classes, normalisation)
  style = resnet.Style(
    norms.BatchNorm,
    jax.nn.relu,
    before=False,
    skip=True,
    option_a=False,
    bottleneck=depth in resnet.BOTTLENECKS,
    groups=1,
    group_width=64,
  )
  blocks = _BLOCKS[depth][:stages]
  first = dimensions.scaled(64, backbone_width)
  channels = image_shape[2]

  def make(rngs):
    body = resnet.ResNet(
      channels, 0, blocks, first, style, 'imagenet', None, rngs=rngs
    )
    return Detr(
      body, num_classes, queries, depths, shape, auxiliary=auxiliary, rngs=rngs
    )

  net = from_nnx.from_nnx(make, spec, lowering)
  if not frozen:
    return net
  projects = style.bottleneck or stages > 1
  return _frozen(net, ['*.bn?.*', *['*.downsample.1.*'] * projects])


def _frozen(net, patterns):
  """Returns the network with parameters that stay as they are."""
  frozen = subset.subset(net, freeze=patterns)
  return frozen._replace(
    edit=lambda change: _frozen(net.edit(change), patterns)
  )


def _check(shape, depths, queries):
  """Raises a ValueError for sizes of a transformer that do not exist."""
  if min(shape.dim, shape.heads, shape.hidden, queries) < 1 or min(depths) < 0:
    raise ValueError(
      'Expected width, heads, hidden * width and queries of at least 1, layers '
      f'of at least 0; got width={shape.dim}, heads={shape.heads}, '
      f'hidden * width={shape.hidden}, queries={queries}, '
      f'encoder_layers={depths[0]}, decoder_layers={depths[1]}; correct them'
    )
  dimensions.require_blocks(depths, 'layers')
  if shape.dim % 4 or shape.dim % shape.heads:
    raise ValueError(
      'Expected a width that is a multiple of 4 and of heads; got '
      f'width={shape.dim}, heads={shape.heads}; change one of them'
    )
