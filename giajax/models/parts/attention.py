"""Attention, and other parts that the vision transformers share.

With queries, keys and values of T tokens per head,

  attend(Q, K, V) = softmax(Q K' + B) V,

Vaswani et al., Attention Is All You Need, NeurIPS 2017, arXiv 1706.03762, and
with the relative position bias B of Liu et al., Swin Transformer, ICCV 2021,
arXiv 2103.14030. Windows and biases are made by reshapes and static slices, so
that no derivative needs a gather or a scatter.
"""

from collections.abc import Callable
import functools

from flax import nnx
import jax
import jax.numpy as jnp

from giajax import types
from giajax.models import layers
from giajax.models.parts import initializers


class SelfAttention(nnx.Module):
  """torch.nn.MultiheadAttention of a sequence with itself.

  Args:
    dim: the number of features of a token.
    heads: the number of heads, a divisor of `dim`.
    dropout: the dropout rate of the attention weights.
    rank: the rank of a low-rank adapter on queries, keys and values; 0 for
      none.
    init: initialiser of both kernels; torch's if None, Xavier's for `in_proj`.
    rngs: the source of the initial weights.
  """

  def __init__(
    self,
    dim: int,
    heads: int,
    *,
    dropout: float = 0.0,
    rank: int = 0,
    init: Callable[..., types.Array] | None = None,
    rngs: nnx.Rngs,
  ):
    self.heads = heads
    self.in_proj = layers.Linear(
      dim,
      3 * dim,
      init=init or initializers.xavier_uniform,
      bias_init=initializers.zeros,
      rank=rank,
      rngs=rngs,
    )
    self.out_proj = layers.Linear(
      dim, dim, init=init, bias_init=initializers.zeros, rngs=rngs
    )
    self.dropout = layers.Dropout(dropout)

  def __call__(self, x: types.Array) -> types.Array:
    """Maps tokens [B, T, D] to the same shape."""
    q, k, v = split(self.in_proj(x), self.heads)
    q = q * q.shape[-1] ** -0.5
    return self.out_proj(attend(q, k, v, dropout=self.dropout))


def split(qkv: types.Array, heads: int) -> list[types.Array]:
  """Maps fused [..., T, 3 D] to queries, keys, values [..., T, heads, d]."""
  width = qkv.shape[-1] // (3 * heads)
  parts = qkv.reshape(*qkv.shape[:-1], 3, heads, width)
  return [parts[..., i, :, :] for i in range(3)]


def attend(
  q: types.Array,
  k: types.Array,
  v: types.Array,
  bias: types.Array | None = None,
  dropout: Callable[[types.Array], types.Array] = layers.identity,
) -> types.Array:
  """Returns what each token gathers from the others.

  Args:
    q: [..., T, heads, d] queries, scaled.
    k: keys, of the same shape.
    v: values, of the same shape.
    bias: [..., heads, T, T] or less, added to the logits.
    dropout: the dropout rate of the attention weights.

  Returns:
    [..., T, heads * d].
  """
  logits = jnp.einsum('...qhd,...khd->...hqk', q, k)
  if bias is not None:
    logits = logits + bias
  weights = dropout(jax.nn.softmax(logits))
  out = jnp.einsum('...hqk,...khd->...qhd', weights, v)
  return out.reshape(*out.shape[:-2], -1)


def bias_table(side: int, heads: int, rngs: nnx.Rngs) -> layers.Parameter:
  """Returns the table of `relative_bias` for a window, to be trained."""
  shape = ((2 * side - 1) ** 2, heads)
  return layers.Parameter(
    initializers.truncated_normal(0.02)(rngs.params(), shape)
  )


def relative_bias(table: types.Array, side: int) -> types.Array:
  """Returns the bias of each pair of tokens in a square window.

  Args:
    table: [(2 side - 1)^2, heads], by the difference of rows, then of columns,
      query minus key.
    side: the side of the window.

  Returns:
    [heads, side^2, side^2].
  """
  grid = table.reshape(2 * side - 1, 2 * side - 1, -1)
  # Row of the query, row of the key, column of the query, column of the key.
  grid = _pairs(_pairs(grid, side, 0), side, 2)
  return grid.transpose(4, 0, 2, 1, 3).reshape(-1, side**2, side**2)


def windows(x: types.Array, side: int) -> types.Array:
  """Cuts [B, H, W, C] into windows [B, H/side, W/side, side^2, C]."""
  b, h, w, c = x.shape
  x = x.reshape(b, h // side, side, w // side, side, c).swapaxes(2, 3)
  return x.reshape(b, h // side, w // side, side**2, c)


def unwindows(x: types.Array) -> types.Array:
  """Puts windows [B, h, w, side^2, C] back to [B, h * side, w * side, C]."""
  b, h, w, tokens, c = x.shape
  side = round(tokens**0.5)
  x = x.reshape(b, h, w, side, side, c).swapaxes(2, 3)
  return x.reshape(b, h * side, w * side, c)


def grids(x: types.Array, side: int) -> types.Array:
  """Cuts [B, H, W, C] into grids [B, H/side, W/side, side^2, C] that span it.

  The tokens of a grid are H/side rows and W/side columns apart.
  """
  b, h, w, c = x.shape
  x = x.reshape(b, side, h // side, side, w // side, c)
  x = x.transpose(0, 2, 4, 1, 3, 5)
  return x.reshape(b, h // side, w // side, side**2, c)


def ungrids(x: types.Array) -> types.Array:
  """Puts grids [B, h, w, side^2, C] back to [B, h * side, w * side, C]."""
  b, h, w, tokens, c = x.shape
  side = round(tokens**0.5)
  x = x.reshape(b, h, w, side, side, c).transpose(0, 3, 1, 4, 2, 5)
  return x.reshape(b, h * side, w * side, c)


def perceptron(
  dim: int,
  hidden: int,
  activation: Callable[[types.Array], types.Array],
  *,
  dropout: float = 0.0,
  init: Callable[..., types.Array],
  bias_init: Callable[..., types.Array] = initializers.zeros,
  rngs: nnx.Rngs,
) -> layers.Sequential:
  """Returns the two linear layers, with dropout, after an attention.

  Args:
    dim: the number of features of a token.
    hidden: the number of features between the layers.
    activation: the activation between the layers.
    dropout: the dropout rate after each of the two layers.
    init: the initialiser of the kernels.
    bias_init: the initialiser of the biases.
    rngs: the source of the initial weights.
  """
  linear = functools.partial(
    layers.Linear, init=init, bias_init=bias_init, rngs=rngs
  )
  return layers.Sequential(
    [
      linear(dim, hidden),
      activation,
      layers.Dropout(dropout),
      linear(hidden, dim),
      layers.Dropout(dropout),
    ]
  )


def _pairs(x, side, axis):
  """Replaces an axis of differences i - j + side - 1 by the axes i and j."""
  flipped = jnp.flip(x, axis)
  rows = [
    jax.lax.slice_in_dim(flipped, side - 1 - i, 2 * side - 1 - i, axis=axis)
    for i in range(side)
  ]
  return jnp.stack(rows, axis)
