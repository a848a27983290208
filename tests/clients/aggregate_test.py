"""Tests of giajax.clients.aggregate and giajax.clients.augmentation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import keys
from giajax import types
from giajax.clients import aggregate
from giajax.clients import augmentation
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.models.classification import mlp
from giajax.tasks import classification

TASK = classification.classification(3)
NET = mlp.mlp((2, 2, 1), 3, widths=(5,))
KEY = jax.random.key(0)
QUERY = types.ServerMessage(NET.init(jax.random.key(1)))
BATCH = types.Batch(
  jax.random.uniform(jax.random.key(2), (6, 2, 2, 1)),
  jnp.array([0, 1, 2, 0, 1, 2]),
)


def close(a, b):
  jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, atol=1e-6), a, b)


def test_fedsgd_aggregates_to_the_gradient_of_all():
  one = fedsgd.fedsgd(NET, TASK)
  three = aggregate.aggregate(one, 3)
  found, output = three.update(KEY, QUERY, BATCH)
  whole, passed = one.update(KEY, QUERY, BATCH)
  close((found, output), (whole, passed))
  target = jax.tree.map(jnp.ones_like, whole.delta)
  close(
    three.moments(KEY, QUERY, BATCH, target)[0],
    one.moments(KEY, QUERY, BATCH, target)[0],
  )
  assert three.clients == 3


def test_fedavg_aggregates_to_the_mean_of_the_clients():
  one = fedavg.fedavg(
    NET, TASK, num_images=2, batch_size=1, epochs=2, learning_rate=0.3
  )
  found = aggregate.aggregate(one, 3).update(KEY, QUERY, BATCH)[0]
  each = [
    one.update(
      keys.at(KEY, i),
      QUERY,
      jax.tree.map(lambda a, i=i: a[2 * i : 2 * i + 2], BATCH),
    )[0].delta
    for i in range(3)
  ]
  close(found.delta, jax.tree.map(lambda *d: sum(d) / 3, *each))
  assert found.size == 6


def test_batch_norm_of_each_client_keeps_it_from_sharing_a_pass():
  coupled = fedsgd.fedsgd(NET, TASK, train_mode=True)
  assert aggregate.aggregate(coupled, 2).moments is None
  assert aggregate.aggregate(coupled, 1) is coupled


def test_mistakes():
  client = fedsgd.fedsgd(NET, TASK)
  with pytest.raises(ValueError, match=r'^Expected at least one client'):
    aggregate.aggregate(client, 0)
  with pytest.raises(ValueError, match=r'^Expected images that 4 clients'):
    aggregate.aggregate(client, 4).update(KEY, QUERY, BATCH)


def test_flips_and_crops_are_moves_of_the_image():
  x = 0.5 + jax.random.uniform(jax.random.key(0), (64, 16, 16, 1)) / 2
  found = np.asarray(augmentation.flip_and_crop(KEY, x))
  padded = np.pad(np.asarray(x), ((0, 0), (2, 2), (2, 2), (0, 0)))
  seen = set()
  for image, given in zip(found, padded):
    moves = {
      (flip, row, column): given[row : row + 16, column : column + 16]
      if not flip
      else given[:, ::-1][row : row + 16, column : column + 16]
      for flip in (False, True)
      for row in range(5)
      for column in range(5)
    }
    fits = [m for m, moved in moves.items() if np.array_equal(image, moved)]
    assert len(fits) == 1
    seen.add(fits[0])
  assert len(seen) > 30 and {flip for flip, *_ in seen} == {False, True}


def test_augmentation_changes_what_a_client_computes_by_its_key():
  client = fedsgd.fedsgd(NET, TASK, augment=True)
  first, again, other = (
    client.update(jax.random.key(k), QUERY, BATCH)[0].delta for k in (0, 0, 1)
  )
  close(first, again)
  gaps = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), first, other)
  assert max(jax.tree.leaves(gaps)) > 1e-4
