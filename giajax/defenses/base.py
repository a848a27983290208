"""Defense: changes to the network, the batch or the client's update."""

from collections.abc import Callable
from typing import NamedTuple

from giajax import keys
from giajax import types
from giajax.clients import base as clients
from giajax.models import base as models


class Defense(NamedTuple):
  """Three places where a client can protect itself, each the identity here.

  Attributes:
    on_net: `(net) -> net`, what the client trains instead.
    on_batch: `(key, batch) -> batch`, applied to the truth only.
    on_client: `(client) -> client`, what leaves the device.
  """

  on_net: Callable[[models.Net], models.Net] = lambda net: net
  on_batch: Callable[[types.Array, types.Batch], types.Batch] = (
    lambda key, batch: batch
  )
  on_client: Callable[[clients.Client], clients.Client] = lambda client: client


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

  return Defense(on_net, on_batch, on_client)
