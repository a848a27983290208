"""Matrix products, attention, and linear layers."""

import math
import string
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from giajax import types
from giajax.models.aten import base
from giajax.models.aten import random
from giajax.models.aten.parts import values


def linear(
  run: base.Pass,
  x: values.Value,
  weight: values.Value,
  bias: values.Value | None = None,
) -> values.Value:
  """Maps [..., C] to [..., P] by a weight [P, C]."""
  images = x.logical()
  y = images @ weight.laid((1, 0))
  if bias is not None:
    y = y + bias.logical()
  return values.of(run.site('linear', (weight, bias), images, y))


def matmul(run: base.Pass, x: values.Value, y: values.Value) -> values.Value:
  """Returns matrix products of the last two axes, others broadcast.

  A parameter with two axes on the right is the kernel of a linear layer.
  """
  if y.ndim == 2 and y.name:
    return linear(run, x, y.permuted((1, 0)))
  if x.ndim < 3 or x.ndim != y.ndim or x.shape[:-2] != y.shape[:-2]:
    return values.of(jnp.matmul(x.logical(), y.logical()))
  # In letters, since axes need not be stored in torch's sequence.
  letters = string.ascii_lowercase[: x.ndim + 1]
  rows = letters[:-1]
  columns = letters[:-3] + letters[-2] + letters[-1]
  out = letters[:-3] + letters[-3] + letters[-1]
  subscripts = f'{_stored(x, rows)},{_stored(y, columns)}->{out}'
  return values.of(jnp.einsum(subscripts, x.array, y.array))


def _stored(x, letters):
  return ''.join(letters[axis] for axis in np.argsort(x.order))


def addmm(
  run: base.Pass,
  bias: values.Value,
  x: values.Value,
  y: values.Value,
  *,
  beta: float = 1,
  alpha: float = 1,
) -> values.Value:
  """Returns beta bias + alpha x @ y, a linear layer for a parameter y."""
  if y.name and beta == 1 and alpha == 1:
    return linear(run, x, y.permuted((1, 0)), bias)
  product = x.logical() @ y.logical()
  return values.of(beta * bias.logical() + alpha * product)


def baddbmm(
  bias: types.Array,
  x: types.Array,
  y: types.Array,
  *,
  beta: float = 1,
  alpha: float = 1,
) -> types.Array:
  """Returns beta bias + alpha x @ y for batches of matrices."""
  return beta * bias + alpha * (x @ y)


def einsum(
  run: base.Pass, equation: str, operands: Any, *, path: Any = None
) -> values.Value:
  """Returns a sum of products, by Einstein's convention."""
  del run, path
  return values.of(
    jnp.einsum(equation.replace(' ', ''), *values.plain(operands))
  )


def attention(
  run: base.Pass,
  q: values.Value,
  k: values.Value,
  v: values.Value,
  mask: values.Value | None = None,
  dropout: float = 0.0,
  causal: bool = False,
  *,
  scale: float | None = None,
  enable_gqa: bool = False,
) -> values.Value:
  """Returns softmax(scale Q K' + mask) V for [..., T, d].

  A boolean mask says which keys a query may see.
  """
  if enable_gqa:
    k, v = (_repeated(part, q) for part in (k, v))
  scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
  queries = q.with_array(q.array * scale)
  logits = matmul(run, queries, k.permuted(_turned(k))).logical()
  if causal:
    seen = jnp.tril(jnp.ones(logits.shape[-2:], bool))
    logits = jnp.where(seen, logits, -jnp.inf)
  if mask is not None:
    logits = _masked(logits, mask.logical())
  weights = random.dropped(run, jax.nn.softmax(logits), dropout)
  return matmul(run, values.of(weights), v)


def _masked(logits, mask):
  if mask.dtype == jnp.bool_:
    return jnp.where(mask, logits, -jnp.inf)
  return logits + mask


def _turned(k):
  axes = [*range(k.ndim)]
  return [*axes[:-2], axes[-1], axes[-2]]


def _repeated(part, q):
  """Repeats heads of keys or values that several heads of queries share."""
  times = q.shape[-3] // part.shape[-3]
  return values.of(jnp.repeat(part.logical(), times, axis=-3))
