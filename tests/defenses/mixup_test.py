"""Tests of giajax.defenses.mixup."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from giajax.clients import fedsgd
from giajax.defenses import mixup
from giajax.models.classification import mlp
from giajax.tasks import classification

K = 4
Y = jnp.array([2, 0, 3, 1], jnp.int32)
# Image i is constant, at a level that tells its label.
LEVELS = np.array([0.1, 0.2, 0.5, 0.9], np.float32)
BATCH = types.Batch(
  jnp.broadcast_to(LEVELS[Y][:, None, None, None], (4, 2, 2, 1)), Y
)


def mixed(alpha=1.0, seed=0, batch=BATCH):
  defense = mixup.mixup(num_classes=K, alpha=alpha)
  return defense.on_batch(jax.random.key(seed), batch)


def test_images_and_labels_are_mixed_alike():
  found = mixed()
  assert found.y.shape == (4, K) and found.y.dtype == jnp.float32
  np.testing.assert_allclose(found.y.sum(1), 1, rtol=1e-6)
  assert ((found.y > 0).sum(1) <= 2).all()
  expected = np.asarray(found.y) @ LEVELS
  for pixel in found.x.reshape(4, -1).T:
    np.testing.assert_allclose(pixel, expected, rtol=1e-5)


def test_a_batch_has_one_weight():
  y = np.asarray(mixed(seed=3).y)
  weights = y[np.arange(4), Y]
  partner = weights < 1
  assert partner.any()
  assert np.ptp(weights[partner]) < 1e-6


@pytest.mark.parametrize('alpha', [0.3, 2.0])
def test_weights_follow_the_beta_distribution(alpha):
  """Its mean is 1/2 and its variance 1 / (4 (2 alpha + 1))."""
  two = types.Batch(jnp.zeros((2, 1, 1, 1)), jnp.array([0, 1], jnp.int32))
  keys = jax.random.split(jax.random.key(0), 1500)
  defense = mixup.mixup(num_classes=2, alpha=alpha)
  y = np.asarray(jax.vmap(lambda key: defense.on_batch(key, two).y)(keys))
  swapped = y[:, 0, 1] > 0
  assert 0.4 < swapped.mean() < 0.6
  weights = y[swapped, 0, 0]
  variance = 1 / (4 * (2 * alpha + 1))
  assert abs(weights.mean() - 0.5) < 4.5 * np.sqrt(variance / len(weights))
  np.testing.assert_allclose(weights.var(), variance, rtol=0.15)


def test_a_client_takes_the_soft_labels():
  """Cross-entropy is linear in them."""
  net = mlp.mlp((2, 2, 1), K, widths=())
  key, found = jax.random.key(0), mixed()
  variables = net.init(key)
  client = fedsgd.fedsgd(net, classification.classification(K))
  gradient = client.update(key, types.ServerMessage(variables), found)[0].delta
  layer = variables.params['layers']['0']
  x = np.asarray(found.x).reshape(4, -1)
  z = np.exp(x @ layer['kernel'] + layer['bias'])
  error = z / z.sum(1, keepdims=True) - found.y
  sent = gradient['layers']['0']
  np.testing.assert_allclose(sent['bias'], error.mean(0), atol=1e-6)
  np.testing.assert_allclose(sent['kernel'], x.T @ error / 4, atol=1e-6)


def test_one_image_cannot_be_mixed():
  with pytest.raises(ValueError, match=r'at least 2 images.*batch of 1'):
    mixed(batch=types.Batch(BATCH.x[:1], Y[:1]))


@pytest.mark.parametrize('alpha', [0.0, -1.0, float('inf'), True])
def test_bad_alphas(alpha):
  with pytest.raises(ValueError, match=f'alpha={alpha}'):
    mixup.mixup(num_classes=K, alpha=alpha)
