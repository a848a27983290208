"""Tests of the priors that read the network's own output."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from giajax import world as worlds
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.models import inspect
from giajax.models import subset
from giajax.models.classification import mlp
from giajax.priors import features
from giajax.priors import task_loss
from giajax.tasks import classification

K = 4
TASK = classification.classification(K)
NET = mlp.mlp((3, 3, 1), K, widths=(5,), activation='tanh')


def measured(client, batch_size, make):
  """Returns `x -> value` of a term, and the images behind its update."""
  term = make(worlds.World(NET, TASK, client, batch_size))
  message = types.ServerMessage(NET.init(jax.random.key(0)))
  x = jax.random.uniform(jax.random.key(1), (batch_size, 3, 3, 1))
  batch = types.Batch(x, jnp.arange(batch_size, dtype=jnp.int32) + 1)
  key = jax.random.key(2)
  update = client.update(key, message, batch)[0]
  obs = types.Observation(message, update, {})

  def value(x):
    candidate = batch._replace(x=x)
    aux = client.update(key, message, candidate, term.taps)[1]
    return term.value(key, candidate, aux, obs)

  return value, x, message


@pytest.mark.parametrize(
  'client',
  [
    fedsgd.fedsgd(NET, TASK),
    fedavg.fedavg(NET, TASK, num_images=1, learning_rate=0.3),
  ],
)
def test_features_of_one_image_are_its_own(client):
  value, x, message = measured(client, 1, features.features)
  np.testing.assert_allclose(value(x), 0, atol=1e-8)
  other = jnp.zeros_like(x)
  tap = f'{inspect.head(NET)}.input'
  h = [
    NET.apply(message.variables, v, train=False, taps=(tap,)).taps[tap]
    for v in (x, other)
  ]
  expected = np.mean((h[0] - h[1]) ** 2)
  assert expected > 1e-3
  np.testing.assert_allclose(value(other), expected, rtol=1e-3)


def test_features_need_a_bias():
  bare = subset.subset(NET, include=('*',), freeze=('*.bias',))
  world = worlds.World(bare, TASK, fedsgd.fedsgd(bare, TASK), 1)
  with pytest.raises(ValueError, match='covers the bias of'):
    features.features(world)


def test_task_loss_is_the_mean_over_the_batch():
  client = fedsgd.fedsgd(NET, TASK)
  value, x, message = measured(client, 2, task_loss.task_loss)
  out = NET.apply(message.variables, x, train=False).out
  logs = jax.nn.log_softmax(out)
  np.testing.assert_allclose(
    value(x), -(logs[0, 1] + logs[1, 2]) / 2, rtol=1e-5
  )
