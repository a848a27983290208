"""Secure aggregation: the server sees the mean of several clients' updates.

Bonawitz et al., Practical Secure Aggregation for Privacy-Preserving Machine
Learning, CCS 2017, arXiv 1611.04482. Only its result is computed: the protocol
itself is not simulated. Every client has the same number of images, so that the
mean is FedAvg's weighted one.

With FedSGD in inference mode, the aggregate is the gradient of one large
batch. With local steps, or with the statistics of each client's own batch, it
is not.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from giajax import keys
from giajax import trees
from giajax import types
from giajax.clients import base


def aggregate(client: base.Client, clients: int) -> base.Client:
  """The mean of several clients' updates, which is all that the server sees.

  Args:
    client: what each of the clients computes, defence included.
    clients: the number of clients; 1 returns the client as it is.

  Returns:
    A client of the batch that holds their images one after the other, in
    equal shares. Its BatchNorm buffers are the means of theirs.

  Raises:
    ValueError: fewer clients than 1. The client's `update` raises it for
      images that they cannot share equally, and for images or labels that
      each client refuses.
  """
  if clients < 1:
    raise ValueError(
      f'Expected at least one client; got clients={clients}; use 1'
    )
  if clients == 1:
    return client

  def update(key, message, batch, taps=()):
    if len(batch.x) % clients:
      raise ValueError(
        f'Expected images that {clients} clients share equally; got '
        f'{len(batch.x)}; change one of them'
      )
    client.check(batch)
    parts = jax.tree.map(lambda a: a.reshape(clients, -1, *a.shape[1:]), batch)

    def one(args):
      i, part, own = args
      return client.update(keys.at(key, i), received(message, own), part, taps)

    # One after the other: separate weights would make each convolution a
    # grouped one.
    updates, output = jax.lax.map(
      one, (jnp.arange(clients), parts, message.each)
    )
    delta, stats = jax.tree.map(
      lambda a: a.mean(0), (updates.delta, updates.stats)
    )
    out, tapped = jax.tree.map(
      lambda a: a.reshape(-1, *a.shape[2:]), (output.out, output.taps)
    )
    total = types.Update(delta, stats, updates.size.sum())
    return total, types.Output(out, stats, tapped, output.penalty.mean())

  # Images that do not affect each other in a pass may share one, if the mean
  # of the clients' losses is that of all images.
  separate = not client.train_mode and client.additive
  return client._replace(
    update=update,
    moments=client.moments if separate else None,
    clients=client.clients * clients,
    unrolled=None,
  )


def received(
  message: types.ServerMessage, own: Mapping[str, types.Array] | tuple[()]
) -> types.ServerMessage:
  """Returns what one client of an aggregate receives.

  Args:
    message: what the server sends to all.
    own: this client's entry of `message.each`.
  """
  if not own:
    return types.ServerMessage(message.variables)
  changed = trees.replaced(message.variables.params, own)
  return types.ServerMessage(message.variables._replace(params=changed))
