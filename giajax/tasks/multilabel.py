"""Binary cross-entropy over K labels, any number of which an image has."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from giajax import keys
from giajax import registry
from giajax import types
from giajax.tasks import base

REDUCTIONS = {'mean': jnp.mean, 'sum': jnp.sum}

_OTHER = 'name the task that they are for'


def multilabel(num_classes: int, *, reduction: str = 'mean') -> base.Task:
  """Binary cross-entropy over K labels, any number of which an image has.

  The loss of an image is, with p = sigmoid(out),

    mean over k of -(y_k log p_k + (1 - y_k) log(1 - p_k))

  in nats, as that of torch's BCEWithLogitsLoss.

  Args:
    num_classes: the number of labels K, at least 1.
    reduction: 'mean' or 'sum' over the labels of an image.

  Raises:
    ValueError: no label, or an unknown reduction. `loss` and `check` raise it
      for targets that are neither [B, K] integers 0 and 1 nor [B, K] numbers in
      [0, 1].
  """
  base.check_size(num_classes, 1)
  reduce = registry.lookup(REDUCTIONS, reduction, 'reduction')

  def check(y: types.Array, count: int) -> None:
    base.check_whole(y, f'targets of {count} images', _OTHER)
    hard = jnp.issubdtype(jnp.result_type(y), jnp.integer)
    base.check_form(
      y,
      (count, num_classes),
      np.integer if hard else np.floating,
      f'labels 0 or 1 of {count} images',
      'give a number for each of the labels',
    )
    if base.is_known(y):
      _check_values(np.asarray(y))

  def loss(out: types.Array, y: types.Array) -> types.Array:
    """Returns [] nats for logits [B, K] and targets [B, K]."""
    check(y, base.count_of(out))
    each = optax.sigmoid_binary_cross_entropy(out, y.astype(out.dtype))
    return jnp.mean(reduce(each, axis=-1))

  return base.Task(
    loss=loss,
    check=check,
    same=_overlap,
    predict=jax.nn.sigmoid,
    harden=lambda y: (y >= 0.5).astype(jnp.int32),
    facts=base.labels(
      lambda key, count: keys.normal(key, (count, num_classes)), jax.nn.sigmoid
    ),
  )


def _overlap(y: types.Array, y_hat: types.Array) -> types.Array:
  """Returns the Jaccard index of two sets of labels, [B]; 1 if both are empty.

  The share of the labels right would be high for whoever names none.
  """
  y, y_hat = jnp.asarray(y) > 0, jnp.asarray(y_hat) > 0
  union = (y | y_hat).sum(axis=-1)
  return jnp.where(union, (y & y_hat).sum(axis=-1) / jnp.maximum(union, 1), 1.0)


def _check_values(y: np.ndarray) -> None:
  wrong = y[~((y >= 0) & (y <= 1))]  # true for NaN as well
  if wrong.size:
    raise ValueError(
      f'Expected labels from 0 to 1; got y={wrong[0]} ({wrong.size} of '
      f'{y.size} are outside); write 1 for the labels that an image has'
    )
