"""Tests of giajax.metrics.gradient_share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.malicious import fishing
from giajax.clients import fedsgd
from giajax.metrics import gradient_share
from giajax.models.classification import mlp
from giajax.tasks import classification

K, B = 3, 4
TASK = classification.classification(K)
NET = mlp.mlp((2, 2, 1), K, widths=(5,))
CLIENT = fedsgd.fedsgd(NET, TASK)
X = jax.random.uniform(jax.random.key(1), (B, 2, 2, 1))
Y = np.array([0, 1, 2, 0])


def seen(seed, y=Y):
  """Returns what a server sees of one round with weights of its own."""
  message = types.ServerMessage(NET.init(jax.random.key(seed)))
  batch = types.Batch(X, jnp.asarray(y))
  update, _ = CLIENT.update(jax.random.key(0), message, batch)
  return types.Observation(message, update, {})


def by_hand(obs):
  """[x_i; 1] (relu'(z_i) W' (p_i - y_i))', in float64, [B, 5, 5]."""
  leaves = trees.named_leaves(obs.message.variables.params)
  w, b, v, c = (
    np.asarray(leaves[f'layers.{i}.{leaf}'], np.float64)
    for i in (0, 1)
    for leaf in ('kernel', 'bias')
  )
  flat = np.asarray(X, np.float64).reshape(B, 4)
  z = flat @ w + b
  logits = np.maximum(z, 0) @ v + c
  p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  errors = (p - np.eye(K)[Y]) @ v.T * (z > 0)
  inputs = np.concatenate([flat, np.ones((B, 1))], 1)
  return np.einsum('bi,bk->bik', inputs, errors)


def shares(merge, *history):
  batch = types.Batch(X, jnp.asarray(Y))
  measure = gradient_share.gradient_share(NET, TASK, merge)
  return np.asarray(measure(history, {}, batch))


def _difference(history):
  """A merge: three times the difference of two rounds."""
  first, last = (obs.update.delta for obs in history)
  delta = jax.tree.map(lambda a, b: 3 * (b - a), first, last)
  update = history[1].update._replace(delta=delta)
  return history[1]._replace(update=update)


def test_one_round_by_hand():
  obs = seen(0)
  norms = np.linalg.norm(by_hand(obs).reshape(B, -1), axis=1)
  found = shares(base.last, obs)
  np.testing.assert_allclose(found, norms / norms.sum(), rtol=1e-4)
  # Of several rounds, the last one is read.
  np.testing.assert_allclose(shares(base.last, seen(1), obs), found, rtol=1e-5)


def test_a_difference_of_two_rounds_by_hand():
  first, last = seen(0), seen(1)
  parts = (by_hand(last) - by_hand(first)).reshape(B, -1)
  norms = np.linalg.norm(parts, axis=1)
  found = shares(_difference, first, last)
  np.testing.assert_allclose(found, norms / norms.sum(), rtol=1e-4)


@pytest.mark.parametrize('y', [[0, 1, 2, 0], [0, 0, 1, 1]])
def test_fishing_leaves_one_image_and_an_honest_server_all(y):
  """The first batch has a class of one image, the second has none."""
  attack = fishing.fishing(
    worlds.World(NET, TASK, CLIENT, B),
    num_steps=1,
    feature_rounds=4,
    double_opponents=False,
  )
  batch = types.Batch(X, jnp.asarray(y))
  message, history = types.ServerMessage(NET.init(jax.random.key(0))), ()
  for _ in range(attack.num_rounds):
    sent = attack.craft(jax.random.key(0), message, {}, history)
    update, _ = CLIENT.update(jax.random.key(0), sent, batch)
    history += (types.Observation(sent, update, {}),)
  measure = gradient_share.gradient_share(NET, TASK, attack.merge)
  found = np.sort(measure(history, {}, batch))
  np.testing.assert_allclose(found, [0, 0, 0, 1], atol=1e-4)
  assert shares(base.last, seen(0)).max() < 0.6
