"""Client: the function from a batch to an update.

The same function makes the truth and is what an attack differentiates. A
server that does not know the client's protocol attacks through a different
Client, and the report names it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from giajax import types
from giajax.models import base as models
from giajax.ops import moments
from giajax.tasks import base as tasks


class Client(NamedTuple):
  """What a client computes.

  Attributes:
    update: `(key, message, batch, taps=()) -> (Update, Output)`; the Output is
      that of a forward pass over the batch, for priors that read statistics,
      with the activations named in `taps`.
    moments: `(key, message, batch, target, taps=()) -> (Moments, Output)`, the
      moments of `update`'s delta against a target delta without forming the
      former, or None where this client or its network cannot.
    as_gradient: `delta -> tree`, an update's delta read as one gradient of the
      mean loss: the sign turned and the rate divided out where it is a
      difference of weights. Exact for one local step.
    train_mode: BatchNorm uses the batch's statistics.
    net: the network that it trains.
    local_steps: optimiser steps behind one update.
    clients: whose mean it is.
    epochs: passes over the images.
    unrolled: as `update`, of a batch that holds the images of every epoch one
      after the other, [epochs B, ...], in the order in which they are taken;
      None where this client cannot.
    augment: each image is transformed at random.
  """

  update: Callable[..., tuple[types.Update, types.Output]]
  moments: Callable[..., tuple[moments.Moments, types.Output]] | None
  as_gradient: Callable[[types.Tree], types.Tree]
  train_mode: bool
  net: models.Net
  local_steps: int = 1
  clients: int = 1
  epochs: int = 1
  unrolled: Callable[..., tuple[types.Update, types.Output]] | None = None
  augment: bool = False


def sends(client: Client, update: Callable[..., Any]) -> Client:
  """Returns the client with another update, and no other form of the old."""
  return client._replace(update=update, moments=None, unrolled=None)


def loss(task: tasks.Task, output: types.Output, y: types.Array) -> types.Array:
  """Returns [] nats: the task's mean loss and what the network adds to it."""
  return jnp.mean(task.loss(output.out, y)) + output.penalty
