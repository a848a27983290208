"""Attention within the windows of a map, as in Swin, Swin V2 and MaxViT.

Liu et al., Swin Transformer, ICCV 2021, arXiv 2103.14030, and Swin Transformer
V2, CVPR 2022, arXiv 2111.09883; Tu et al., MaxViT, ECCV 2022, arXiv 2204.01697.
Attribute names are torchvision's.
"""

import functools
import math

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from giajax import types
from giajax.models import layers
from giajax.models.parts import attention
from giajax.models.parts import initializers
from giajax.ops import moments

_MASKED = -100.0  # added to the logits of tokens that were not neighbours

_linear = functools.partial(
  layers.Linear,
  init=initializers.truncated_normal(0.02),
  bias_init=initializers.zeros,
)


class KeylessBias(layers.Layer):
  """A linear layer to queries, keys and values, whose keys have no bias.

  As in torchvision, the bias has entries for the keys, which are not used.

  Args:
    dim: the number of features of a token.
    rngs: the source of the initial weights.
  """

  def __init__(self, dim: int, *, rngs: nnx.Rngs):
    kernel = initializers.truncated_normal(0.02)(rngs.params(), (dim, 3 * dim))
    self.kernel = nnx.Param(kernel)
    self.bias = layers.Parameter(jnp.zeros(3 * dim))

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [..., D] to [..., 3 D]."""
    site = moments.Site('linear', x)
    y = self.context.record(self, x, x @ self.kernel[...], site)
    q, _, v = jnp.split(self.bias(), 3)
    return y + jnp.concatenate([q, jnp.zeros_like(q), v])


class WindowAttention(nnx.Module):
  """Attention within the windows of a map, rolled by `shift` tokens before.

  Args:
    dim: the number of features of a token.
    heads: the number of heads, a divisor of `dim`.
    window: the side of a window, in tokens.
    shift: the shift of the map, along each axis that has more than one window.
    cosine: whether to follow version 2: logits are scaled cosines, the position
      bias comes from two linear layers, and keys have no bias.
    dropout: the dropout rate of the output.
    attention_dropout: the dropout rate of the attention weights.
    rngs: the source of the initial weights.
  """

  def __init__(
    self,
    dim: int,
    heads: int,
    *,
    window: int,
    shift: int,
    cosine: bool,
    dropout: float,
    attention_dropout: float,
    rngs: nnx.Rngs,
  ):
    self.heads, self.window, self.shift = heads, window, shift
    self.cosine = cosine
    if cosine:
      self.qkv = KeylessBias(dim, rngs=rngs)
      scale = jnp.full((heads, 1, 1), math.log(10))
      self.logit_scale = layers.Parameter(scale)
      last = _linear(512, heads, bias=False, rngs=rngs)
      self.cpb_mlp = layers.Sequential(
        [_linear(2, 512, rngs=rngs), jax.nn.relu, last]
      )
    else:
      self.qkv = _linear(dim, 3 * dim, rngs=rngs)
      self.relative_position_bias_table = attention.bias_table(
        window, heads, rngs
      )
    self.proj = _linear(dim, dim, rngs=rngs)
    self.attention_dropout = layers.Dropout(attention_dropout)
    self.dropout = layers.Dropout(dropout)

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, C] to the same shape."""
    side, (h, w) = self.window, x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (0, -h % side), (0, -w % side), (0, 0)))
    size = x.shape[1:3]
    shifts = [self.shift if n > side else 0 for n in size]
    bias = self._bias(x.dtype)
    if any(shifts):
      x = jnp.roll(x, [-s for s in shifts], (1, 2))
      bias = bias + jnp.asarray(_mask(size, side, shifts), bias.dtype)
    q, k, v = attention.split(self.qkv(attention.windows(x, side)), self.heads)
    y = attention.attend(*self._scaled(q, k), v, bias, self.attention_dropout)
    x = attention.unwindows(self.dropout(self.proj(y)))
    if any(shifts):
      x = jnp.roll(x, shifts, (1, 2))
    return x[:, :h, :w]

  def _scaled(self, q, k):
    if not self.cosine:
      return q * q.shape[-1] ** -0.5, k
    scale = jnp.exp(jnp.minimum(self.logit_scale(), math.log(100)))
    return _unit(q) * scale[:, 0], _unit(k)

  def _bias(self, dtype):  # [heads, T, T]
    if self.cosine:
      table = self.cpb_mlp(jnp.asarray(_offsets(self.window), dtype))
      table = 16 * jax.nn.sigmoid(table)
    else:
      table = self.relative_position_bias_table()
    return attention.relative_bias(table, self.window)


class RelativeAttention(nnx.Module):
  """MaxViT's attention, with a position bias, among the tokens of a window.

  Args:
    dim: the number of features of a token.
    heads: the number of heads, a divisor of `dim`.
    window: the side of a window, in tokens.
    rngs: the source of the initial weights.
  """

  def __init__(self, dim: int, heads: int, *, window: int, rngs: nnx.Rngs):
    self.heads, self.window = heads, window
    linear = functools.partial(
      layers.Linear,
      init=initializers.normal(0.02),
      bias_init=initializers.zeros,
      rngs=rngs,
    )
    self.to_qkv, self.merge = linear(dim, 3 * dim), linear(dim, dim)
    self.relative_position_bias_table = attention.bias_table(
      window, heads, rngs
    )

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [..., window^2, C] to the same shape."""
    q, k, v = attention.split(self.to_qkv(x), self.heads)
    table = self.relative_position_bias_table()
    bias = attention.relative_bias(table, self.window)
    scale = x.shape[-1] ** -0.5  # for all heads together, as in torchvision
    return self.merge(attention.attend(q, k * scale, v, bias))


def _unit(x):
  """Returns x over its norm on the last axis; zero, with no slope, for zero."""
  squared = jnp.square(x).sum(-1, keepdims=True)
  zero = squared < 1e-24
  return jnp.where(zero, 0, x) * jax.lax.rsqrt(jnp.where(zero, 1, squared))


def _offsets(side):
  """Returns the logarithmic distances within a window, [(2 side - 1)^2, 2]."""
  steps = np.arange(1 - side, side) * 8 / (side - 1)
  steps = np.sign(steps) * np.log2(np.abs(steps) + 1) / 3
  grid = np.stack(np.meshgrid(steps, steps, indexing='ij'), -1)
  return grid.reshape(-1, 2)


def _mask(size, side, shifts):
  """Returns a mask against attention across the seams of a rolled map.

  Args:
    size: (H, W) of the padded map.
    side: the side of a window.
    shifts: the shifts by which the map was rolled.

  Returns:
    [1, H/side, W/side, 1, side^2, side^2].
  """
  rows, columns = (
    np.searchsorted([n - side, n - s], np.arange(n), 'right') * (s > 0)
    for n, s in zip(size, shifts)
  )
  regions = (3 * rows[:, None] + columns)[None, :, :, None]
  regions = attention.windows(regions, side)  # pyrefly: ignore
  regions = regions.reshape(*regions.shape[:3], 1, -1)
  apart = regions[..., :, None] != regions[..., None, :]
  return np.where(apart, _MASKED, 0.0)
