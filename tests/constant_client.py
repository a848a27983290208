"""A client that sends what a test says, and what leaves its device."""

import jax
import jax.numpy as jnp
import numpy as np

from giajax import types
from giajax.clients import base as clients
from giajax.models.classification import mlp

MESSAGE = types.ServerMessage(types.Variables({}, {}))
BATCH = types.Batch(jnp.zeros((1, 1, 1, 1)), jnp.zeros(1, jnp.int32))


def constant(entries=2.0):
  """A client that sends the same entries, a number or [3000], every time."""
  flat = jnp.broadcast_to(jnp.asarray(entries, jnp.float32), 3000)
  delta = {'a': {'b': flat[:2000].reshape(40, 50)}, 'c': flat[2000:]}
  update = types.Update(delta, {'bn': jnp.ones(3)}, jnp.int32(1))
  output = types.Output(jnp.zeros((1, 2)), {}, {})
  return clients.Client(
    lambda key, message, batch, taps=(): (update, output),
    lambda *args: None,
    lambda delta: delta,
    train_mode=True,
    net=mlp.mlp((1, 1, 1), 2),
  )


def sent(defense, seed=0, client=None):
  """Returns what leaves the device, [3000] entries."""
  client = defense.on_client(client or constant())
  update, _ = client.update(jax.random.key(seed), MESSAGE, BATCH)
  leaves = jax.tree.leaves(update.delta)
  return np.concatenate([np.ravel(leaf) for leaf in leaves])


def has_deviation(entries, mean, std):
  """Whether entries look drawn from N(mean, std^2), at 4.5 sigma."""
  n = len(entries)
  centred = abs(entries.mean() - mean) < 4.5 * std / np.sqrt(n)
  spread = abs(entries.std() / std - 1) < 4.5 / np.sqrt(2 * n)
  return centred and spread
