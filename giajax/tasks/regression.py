"""Regression: D numbers per image."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import optax

from giajax import keys
from giajax import registry
from giajax import types
from giajax.tasks import base

LOSSES: dict[str, Callable[[types.Array, types.Array], types.Array]] = {
  'squared': optax.squared_error,
  'absolute': lambda out, y: jnp.abs(out - y),
  'huber': optax.huber_loss,
}


def regression(
  num_classes: int, *, loss: str = 'squared', tolerance: float = 0.1
) -> base.Task:
  """The mean error of D numbers per image.

  The loss of an image is the mean over its numbers of the squared error, the
  absolute error, or Huber's loss with a threshold of 1, as those of torch's
  MSELoss, L1Loss and SmoothL1Loss.

  Args:
    num_classes: D, the number of numbers.
    loss: a name in `LOSSES`.
    tolerance: how far a number that an attack claims may be off to count as
      right, in the unit of the targets.

  Raises:
    ValueError: no number, an unknown loss, or a tolerance that is not above 0.
      `loss` and `check` raise it for targets that are not finite floats
      [B, D].
  """
  base.check_size(num_classes, 1)
  if not tolerance > 0:
    raise ValueError(
      f'Expected tolerance > 0; got tolerance={tolerance}; say how far '
      'off a number may be'
    )
  error = registry.lookup(LOSSES, loss, 'loss of a regression')

  def check(y: types.Array, count: int) -> None:
    base.check_form(
      y,
      (count, num_classes),
      np.floating,
      f'targets of {count} images, floats',
      'reshape or convert them',
    )
    if base.is_known(y):
      base.check_finite(y, 'targets')

  def mean(out: types.Array, y: types.Array) -> types.Array:
    """Returns [] for outputs [B, D] and targets [B, D]."""
    check(y, base.count_of(out))
    return jnp.mean(error(out, y))

  def same(y, y_hat):
    return jnp.mean(jnp.abs(jnp.asarray(y) - y_hat) <= tolerance, axis=-1)

  return base.Task(
    loss=mean,
    check=check,
    same=same,
    predict=lambda out: out,
    facts=base.labels(
      lambda key, count: keys.normal(key, (count, num_classes))
    ),
  )
