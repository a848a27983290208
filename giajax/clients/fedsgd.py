"""FedSGD: one gradient of the mean loss over the batch.

McMahan et al., Communication-Efficient Learning of Deep Networks from
Decentralized Data, AISTATS 2017, arXiv 1602.05629.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from giajax import types
from giajax.clients import augmentation
from giajax.clients import base
from giajax.models import base as models
from giajax.models import gradient_moments
from giajax.ops import moments
from giajax.tasks import base as tasks


def fedsgd(
  net: models.Net,
  task: tasks.Task,
  *,
  train_mode: bool = False,
  augment: bool = False,
) -> base.Client:
  """One gradient of the mean loss over the batch.

  Args:
    net: the network.
    task: the task, for its loss.
    train_mode: whether BatchNorm uses the batch's statistics and dropout drops
      units; inference mode freezes the former and makes inversion much easier.
    augment: whether images are flipped and cropped at random, see
      `augmentation`.

  Returns:
    A client whose `update` and `moments` raise a ValueError for images or
    labels that the network or the task refuses.
  """
  augmented = augmentation.augmenter(augment)

  def update(
    key: types.Array,
    message: types.ServerMessage,
    batch: types.Batch,
    taps: Sequence[str] = (),
  ) -> tuple[types.Update, types.Output]:
    variables = message.variables

    def loss(params):
      output = net.apply(
        variables._replace(params=params),
        augmented(key, batch.x),
        train=train_mode,
        taps=taps,
        key=key,
      )
      return base.loss(task, output, batch.y), output

    gradient, output = jax.grad(loss, has_aux=True)(variables.params)
    size = jnp.asarray(batch.x.shape[0], jnp.int32)
    return types.Update(gradient, output.stats, size), output

  def update_moments(
    key: types.Array,
    message: types.ServerMessage,
    batch: types.Batch,
    target: types.Tree,
    taps: Sequence[str] = (),
  ) -> tuple[moments.Moments, types.Output]:
    return gradient_moments.gradient_moments(
      net,
      lambda output: base.loss(task, output, batch.y),
      message.variables,
      augmented(key, batch.x),
      target,
      train=train_mode,
      taps=taps,
      key=key,
    )

  return base.Client(
    update,
    update_moments if net.probe is not None else None,
    lambda delta: delta,
    train_mode,
    net,
    augment=augment,
    additive=task.additive,
    check=base.checker(task),
  )
