"""Cross-entropy over K exclusive classes."""

import jax
import jax.numpy as jnp

from giajax import types
from giajax.tasks import base


def classification(num_classes: int) -> base.Task:
  """Cross-entropy over K exclusive classes, hard or soft labels.

  Args:
    num_classes: K, at least 2.

  Raises:
    ValueError: fewer than two classes.
  """
  if num_classes < 2:
    raise ValueError(
      f'Expected num_classes >= 2; got num_classes={num_classes}; a data set '
      'of one class has nothing to classify'
    )

  def loss(out: types.Array, y: types.Array) -> types.Array:
    """Returns [B] nats for logits [B, K] and labels [B] or [B, K]."""
    log_p = jax.nn.log_softmax(out)
    if y.ndim == 1:
      return -jnp.take_along_axis(log_p, y[:, None], axis=-1)[:, 0]
    return -jnp.sum(y * log_p, axis=-1)

  return base.Task(
    loss=loss,
    random_target=lambda key, b: jax.random.randint(key, (b,), 0, num_classes),
    relax=jax.nn.softmax,
    harden=lambda y: y if y.ndim == 1 else jnp.argmax(y, -1).astype(jnp.int32),
  )
