"""Client: the function from a batch to an update.

The same function makes the truth and is what an attack differentiates. A
server that does not know the client's protocol attacks through a different
Client, and the report names it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from giajax import types
from giajax.models import base as models
from giajax.ops import moments
from giajax.tasks import base as tasks


class UpdateFn(Protocol):
  """What a client makes of a batch."""

  def __call__(
    self,
    key: types.Array,
    message: types.ServerMessage,
    batch: types.Batch,
    taps: Sequence[str] = (),
  ) -> tuple[types.Update, types.Output]:
    """Returns what the client sends, and a forward pass over the batch.

    Args:
      key: the key of all random draws; consumed.
      message: what the server sent.
      batch: the client's images and labels.
      taps: names of the activations that are wanted in the Output.
    """
    ...


class MomentsFn(Protocol):
  """The moments of a client's delta, without forming the delta."""

  def __call__(
    self,
    key: types.Array,
    message: types.ServerMessage,
    batch: types.Batch,
    target: types.Tree,
    taps: Sequence[str] = (),
  ) -> tuple[moments.Moments, types.Output]:
    """Returns the moments of `update`'s delta against a target delta.

    Args:
      key: as for `UpdateFn`, like `message`, `batch` and `taps`.
      message: what the server sent.
      batch: images and labels.
      target: the delta to compare with, like the parameters.
      taps: names of the activations that are wanted in the Output.
    """
    ...


def any_batch(batch: types.Batch) -> None:
  """Accepts every batch."""
  del batch


class Client(NamedTuple):
  """What a client computes.

  Attributes:
    update: see `UpdateFn`; the Output is for priors that read statistics.
    moments: see `MomentsFn`; None where this client or its network cannot
      report them.
    as_gradient: `delta -> tree`, an update's delta read as one gradient of the
      mean loss: the sign turned and the rate divided out where it is a
      difference of weights. Exact for one local step.
    train_mode: whether BatchNorm uses the batch's statistics.
    net: the network that it trains.
    local_steps: the number of optimiser steps behind one update.
    clients: the number of clients whose mean the update is.
    epochs: the number of passes over the images.
    unrolled: as `update`, of a batch that holds the images of every epoch one
      after the other, [epochs B, ...], in the order in which they are taken;
      None where this client cannot.
    augment: whether each image is transformed at random.
    additive: whether the loss of a batch is the mean of its images' own.
    check: a function that raises a ValueError for a batch whose targets its
      task refuses.
  """

  update: UpdateFn
  moments: MomentsFn | None
  as_gradient: Callable[[types.Tree], types.Tree]
  train_mode: bool
  net: models.Net
  local_steps: int = 1
  clients: int = 1
  epochs: int = 1
  unrolled: UpdateFn | None = None
  augment: bool = False
  additive: bool = True
  check: Callable[[types.Batch], None] = any_batch


def with_update(client: Client, update: UpdateFn) -> Client:
  """Returns the client with another update, without other forms of the old."""
  return client._replace(update=update, moments=None, unrolled=None)


def loss(task: tasks.Task, output: types.Output, y: Any) -> types.Array:
  """Returns []: the task's loss and what the network adds to it."""
  return task.loss(output.out, y) + output.penalty


def checker(task: tasks.Task) -> Callable[[types.Batch], None]:
  """Returns the `check` of a client that trains for a task."""
  return lambda batch: task.check(batch.y, len(batch.x))
