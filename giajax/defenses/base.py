"""Defense: changes to the network, the batch or the client's update."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from giajax import keys
from giajax import trees
from giajax import types
from giajax.clients import base as clients
from giajax.models import base as models


class Defense(NamedTuple):
  """Where a client can protect itself; each function defaults to the identity.

  Attributes:
    on_net: `(net) -> net`, the network that the client trains instead.
    on_batch: `(key, batch) -> batch`, applied to the truth only.
    on_client: `(client) -> client`, what leaves the device.
    on_belief: `(client) -> client`, the client that a server assumes if it
      knows the defence: differentiable, and without draws that it does not see.
  """

  on_net: Callable[[models.Net], models.Net] = lambda net: net
  on_batch: Callable[[types.Array, types.Batch], types.Batch] = (
    lambda key, batch: batch
  )
  on_client: Callable[[clients.Client], clients.Client] = lambda client: client
  on_belief: Callable[[clients.Client], clients.Client] = lambda client: client


def none() -> Defense:
  """No defence."""
  return Defense()


def chain(*defenses: Defense) -> Defense:
  """Applies defences in order; the last one touches the update last."""

  def on_net(net):
    for defense in defenses:
      net = defense.on_net(net)
    return net

  def on_batch(key, batch):
    for i, defense in enumerate(defenses):
      batch = defense.on_batch(keys.at(key, i), batch)
    return batch

  def on_client(client):
    for defense in defenses:
      client = defense.on_client(client)
    return client

  def on_belief(client):
    for defense in defenses:
      client = defense.on_belief(client)
    return client

  return Defense(on_net, on_batch, on_client, on_belief)


def protect(client: clients.Client, defense: Defense) -> clients.Client:
  """Returns the client that hides its batch and its update, as it runs."""
  inner = defense.on_client(client)

  def update(key, message, batch, taps=()):
    batch = defense.on_batch(keys.named(key, 'defense'), batch)
    return inner.update(keys.named(key, 'client'), message, batch, taps)

  return clients.with_update(inner, update)


def on_leaves(
  change: Callable[[types.Array, types.Array], types.Array], name: str
) -> Callable[[clients.Client], clients.Client]:
  """Returns an `on_client` that changes each leaf of the update's delta.

  Args:
    change: `(key, leaf) -> leaf`; the key is consumed.
    name: the name by which the keys of its draws are derived.
  """

  def on_client(client):
    def update(key, message, batch, taps=()):
      # A client that draws random numbers itself must not draw the same ones
      # again.
      own = keys.named(key, 'client')
      clean, output = client.update(own, message, batch, taps)
      root = keys.named(key, name)
      changed = {
        path: change(keys.named(root, path), leaf)
        for path, leaf in trees.named_leaves(clean.delta).items()
      }
      delta = trees.like(clean.delta, changed)
      return clean._replace(delta=delta), output

    return clients.with_update(client, update)

  return on_client


def without(
  client: clients.Client, left_out: Callable[[str], bool]
) -> clients.Client:
  """Returns a client whose delta is zero in some leaves: an `on_belief`.

  A server that matches with it leaves these leaves out: they move a squared or
  an absolute distance by a constant, and shrink a cosine by a constant factor,
  which gives priors more weight.

  Args:
    client: the client that the server would assume otherwise.
    left_out: a function that says whether the leaf of a dotted name is left
      out.
  """

  def update(key, message, batch, taps=()):
    clean, output = client.update(key, message, batch, taps)
    leaves = {
      path: jnp.zeros_like(leaf) if left_out(path) else leaf
      for path, leaf in trees.named_leaves(clean.delta).items()
    }
    return clean._replace(delta=trees.like(clean.delta, leaves)), output

  def update_moments(key, message, batch, target, taps=()):
    own, output = client.moments(  # pyrefly: ignore
      key, message, batch, target, taps
    )
    dot, squared = (
      {n: jnp.zeros_like(v) if left_out(n) else v for n, v in part.items()}
      for part in (own.dot, own.squared)
    )
    return own._replace(dot=dot, squared=squared), output

  return client._replace(
    update=update,
    moments=update_moments if client.moments else None,
    unrolled=None,
  )
