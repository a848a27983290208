"""Semantic segmentation: a class of K for each pixel."""

import jax
import jax.numpy as jnp
import numpy as np

from giajax import keys
from giajax import types
from giajax.tasks import base

_OTHER = 'name the task that they are for'


def segmentation(
  num_classes: int,
  image_shape: tuple[int, int, int],
  *,
  ignored: int | None = None,
) -> base.Task:
  """Cross-entropy over K classes for each pixel.

  The loss of a batch is the mean over all pixels of -log softmax(out)_y, in
  nats. Where pixels are ignored, it is the mean over the other ones of the
  whole batch, as in torch, and not the mean of its images' losses.

  Args:
    num_classes: the number of classes K, at least 2.
    image_shape: (H, W, C) of the images, whose pixels the network classifies.
    ignored: the label of pixels that are left out, such as 255; None for none.

  Raises:
    ValueError: fewer than two classes, or an ignored label that is one of them.
      `loss` and `check` raise it for targets that are neither [B, H, W]
      integers in [0, K) or ignored, nor [B, H, W, K] probabilities.
  """
  base.check_size(num_classes, 2)
  if ignored is not None and 0 <= ignored < num_classes:
    raise ValueError(
      f'Expected an ignored label outside [0, {num_classes}); got '
      f'ignored={ignored}; use one that is no class, such as 255'
    )
  height, width, _ = image_shape

  def check(y: types.Array, count: int) -> None:
    base.check_whole(y, f'targets of {count} images', _OTHER)
    hard = jnp.issubdtype(jnp.result_type(y), jnp.integer)
    shape = (count, height, width) + (() if hard else (num_classes,))
    base.check_form(
      y,
      shape,
      np.integer if hard else np.floating,
      f'a class for each pixel of {count} images',
      'give labels of the size of the images',
    )
    if hard and base.is_known(y):
      _check_classes(np.asarray(y), num_classes, ignored)

  def loss(out: types.Array, y: types.Array) -> types.Array:
    """Returns [] nats for logits [B, H, W, K]."""
    check(y, base.count_of(out))
    log_p = jax.nn.log_softmax(out)
    if jnp.issubdtype(y.dtype, jnp.floating):
      return -jnp.mean(jnp.sum(y * log_p, axis=-1))
    counted = jnp.ones(y.shape, bool) if ignored is None else y != ignored
    labels = jnp.where(counted, y, 0)
    each = -jnp.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0]
    total = jnp.maximum(counted.sum(), 1)
    return jnp.where(counted, each, 0.0).sum() / total

  def same(y, y_hat):
    """Returns the share of the pixels that are right; ignored ones are not."""
    y, y_hat = jnp.asarray(y), jnp.asarray(y_hat)
    counted = jnp.ones(y.shape, bool) if ignored is None else y != ignored
    right = (counted & (y == y_hat)).sum(axis=(1, 2))
    return right / jnp.maximum(counted.sum(axis=(1, 2)), 1)

  return base.Task(
    loss=loss,
    check=check,
    same=same,
    predict=jax.nn.softmax,
    harden=lambda y: y if y.ndim == 3 else jnp.argmax(y, -1).astype(jnp.int32),
    additive=ignored is None,
    facts=base.labels(
      lambda key, count: keys.normal(key, (count, height, width, num_classes)),
      jax.nn.softmax,
    ),
  )


def _check_classes(y, num_classes, ignored):
  wrong = (y < 0) | (y >= num_classes)
  if ignored is not None:
    wrong &= y != ignored
  if wrong.any():
    raise ValueError(
      f'Expected classes in [0, {num_classes}); got y={y[wrong][0]} '
      f'({int(wrong.sum())} of {y.size} pixels are outside); correct them, or '
      'name an ignored label'
    )
