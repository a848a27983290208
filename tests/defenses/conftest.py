"""What these tests share: a client of one leaf."""

import jax
import jax.numpy as jnp
import pytest

from giajax import types
from giajax.clients import base as clients
from giajax.models.classification import mlp


@pytest.fixture
def sent():
  """Returns what a defence makes of a client that sends a leaf."""

  def leaf_of(defense, leaf, seed=0, believed=False):
    update = types.Update({'w': jnp.asarray(leaf)}, {}, jnp.int32(1))
    client = clients.Client(
      lambda key, message, batch, taps=(): (update, None),
      None,
      lambda delta: delta,
      train_mode=False,
      net=mlp.mlp((1, 1, 1), 2),
    )
    guard = defense.on_belief if believed else defense.on_client
    guarded = guard(client)
    return guarded.update(jax.random.key(seed), None, None)[0].delta['w']

  return leaf_of
