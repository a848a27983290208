"""LTI: what it reads of an update, and what it says of itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from giajax import world as worlds
from giajax.attacks.generative import lti
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.generative import base as generative
from giajax.generative import GENERATORS
from giajax.models.classification import mlp
from giajax.tasks import classification

K, B = 3, 2
SHAPE = (2, 2, 1)
NET = mlp.mlp(SHAPE, K, widths=(4,), activation='tanh')
ENTRIES = 4 * 4 + 4 + 4 * K + K
TASK = classification.classification(K)
WEIGHTS = NET.init(jax.random.key(0))


def world(client=None, batch_size=B):
  return worlds.World(NET, TASK, client or fedsgd.fedsgd(NET, TASK), batch_size)


def observed(client):
  batch = types.Batch(
    jax.random.uniform(jax.random.key(1), (B, *SHAPE)), jnp.array([0, 2])
  )
  message = types.ServerMessage(WEIGHTS)
  update = client.update(jax.random.key(2), message, batch)[0]
  return types.Observation(message, update, {})


def trained(entries=ENTRIES, batch_size=B, shape=SHAPE):
  generator = GENERATORS['lti'](
    shape, entries=entries, batch_size=batch_size, hashed=0, width=5
  )
  weights = generator.init(jax.random.key(3))
  stats = {
    'norm': {'mean': jnp.full(entries, 0.1), 'var': jnp.full(entries, 4.0)}
  }
  return generative.Trained(generator, weights._replace(stats=stats), '')


def test_an_update_is_one_vector_in_the_order_of_names():
  obs = observed(world().client)
  found = lti.latents(world())(obs, None)
  layers = obs.update.delta['layers']
  parts = [layers[i][leaf] for i in '01' for leaf in ('bias', 'kernel')]
  expected = np.concatenate([np.ravel(part) for part in parts])
  assert found.shape == (1, ENTRIES) and np.abs(expected).min() > 0
  np.testing.assert_array_equal(found[0], expected)


def test_a_difference_of_weights_is_read_as_a_gradient():
  client = fedavg.fedavg(NET, TASK, num_images=B, learning_rate=0.3)
  found = lti.latents(world(client))(observed(client), None)
  expected = lti.latents(world())(observed(world().client), None)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_images_are_those_of_the_network_without_labels():
  perceptron, obs = trained(), observed(world().client)
  attack = lti.lti(world(), generator=perceptron)
  found = jax.jit(lambda: attack.read({}, obs, {}))()
  z = lti.latents(world())(obs, None)
  expected = perceptron.generator.apply(perceptron.variables, z).out
  np.testing.assert_allclose(found.batch.x, expected, atol=1e-6)
  np.testing.assert_array_equal(found.batch.y, [-1] * B)
  # By hand: in units of the deviation of 2 around the mean of 0.1.
  score = np.mean(((np.asarray(z) - 0.1) / 2) ** 2)
  np.testing.assert_allclose(found.score, score, rtol=1e-5)
  assert attack.needs == {'model', 'batch_size', 'auxiliary_data'}


@pytest.mark.parametrize(
  ('change', 'expected'),
  [
    (dict(entries=ENTRIES - 1), f'from {ENTRIES} numbers'),
    (dict(batch_size=1), '2 images for mlp'),
    (dict(shape=(2, 2, 3)), r'images \(2, 2, 1\)'),
  ],
)
def test_networks_of_other_updates_are_refused(change, expected):
  with pytest.raises(ValueError, match=f'^Expected .*{expected}') as error:
    lti.lti(world(), generator=trained(**change))
  assert '\n' not in str(error.value)
