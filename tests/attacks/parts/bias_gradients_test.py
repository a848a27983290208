"""Tests of giajax.attacks.parts.bias_gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import bias_gradients
from giajax.clients import fedsgd
from giajax.models.classification import mlp
from giajax.tasks import classification

NET = mlp.mlp((3, 3, 1), 4, widths=(6,))
TASK = classification.classification(4)


@pytest.mark.parametrize('path', ['layers.0', 'layers.1'])
def test_it_is_what_a_client_of_one_image_sends(path):
  client = fedsgd.fedsgd(NET, TASK)
  world = worlds.World(NET, TASK, client, 2)
  message = types.ServerMessage(NET.init(jax.random.key(0)))
  x = jax.random.uniform(jax.random.key(1), (3, 3, 1))
  y = jnp.array(2, jnp.int32)
  batch = types.Batch(x[None], y[None])
  sent = client.update(jax.random.key(2), message, batch)[0].delta
  gradients = bias_gradients.bias_gradients(world, path, message.variables)
  _, expected = base.kernel_and_bias(sent, path)
  np.testing.assert_allclose(gradients(x, y), expected, rtol=1e-5, atol=1e-7)
  assert jnp.abs(expected).max() > 1e-3
