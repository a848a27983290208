"""Cross-entropy over K exclusive classes."""

import jax
import jax.numpy as jnp
import numpy as np

from giajax import keys
from giajax import types
from giajax.tasks import base

_ROUNDING = 1e-3  # how far the sum of an image's soft labels may differ from 1


def classification(num_classes: int) -> base.Task:
  """Cross-entropy over K exclusive classes, hard or soft labels.

  The loss of an image is -log softmax(out)_y, in nats.

  Args:
    num_classes: the number of classes K, at least 2.

  Raises:
    ValueError: fewer than two classes. `loss` and `check` raise it for labels
      that are neither [B] integers in [0, K) nor [B, K] probabilities.
  """
  if num_classes < 2:
    raise ValueError(
      f'Expected num_classes >= 2; got num_classes={num_classes}; a data set '
      'of one class has nothing to classify'
    )

  def check(y: types.Array, count: int) -> None:
    _check_form(y, count, num_classes)
    if not base.is_known(y):
      return
    if jnp.ndim(y) == 1:
      _check_classes(np.asarray(y), num_classes)
    else:
      _check_probabilities(np.asarray(y))

  def loss(out: types.Array, y: types.Array) -> types.Array:
    """Returns [] nats for logits [B, K] and labels [B] or [B, K]."""
    check(y, base.count_of(out))
    log_p = jax.nn.log_softmax(out)
    if y.ndim == 1:
      return -jnp.mean(jnp.take_along_axis(log_p, y[:, None], axis=-1))
    return -jnp.mean(jnp.sum(y * log_p, axis=-1))

  return base.Task(
    loss=loss,
    check=check,
    same=base.equal,
    predict=jax.nn.softmax,
    harden=lambda y: y if y.ndim == 1 else jnp.argmax(y, -1).astype(jnp.int32),
    facts=base.labels(
      lambda key, count: keys.normal(key, (count, num_classes)), jax.nn.softmax
    ),
    exclusive=True,
  )


def _check_form(y, count, num_classes):
  """Checks shape and type: other shapes would broadcast against the loss."""
  base.check_whole(
    y, f'labels of {count} images', 'name the task that they are for'
  )
  shape, dtype = jnp.shape(y), jnp.result_type(y)
  hard = shape == (count,) and jnp.issubdtype(dtype, jnp.integer)
  soft = shape == (count, num_classes) and jnp.issubdtype(dtype, jnp.floating)
  if not (hard or soft):
    raise ValueError(
      f'Expected labels of {count} images, integers [{count}] or probabilities '
      f'[{count}, {num_classes}]; got shape={shape}, dtype={dtype}; give one '
      'label per image'
    )


def _check_classes(y, num_classes):
  wrong = y[(y < 0) | (y >= num_classes)]
  if wrong.size:
    raise ValueError(
      f'Expected labels in [0, {num_classes}); got y={wrong[0]} '
      f'({wrong.size} of {y.size} are outside); correct them, or build the '
      'network and the task with more classes'
    )


def _check_probabilities(y):
  totals = y.sum(-1)
  # Written so that a NaN fails.
  good = (y >= 0).all(-1) & (np.abs(totals - 1) <= _ROUNDING)
  if not good.all():
    first = int(np.argmin(good))
    raise ValueError(
      'Expected soft labels of at least 0 whose sum per image is 1; got '
      f'y[{first}]={y[first].tolist()}; divide each row by its sum'
    )
