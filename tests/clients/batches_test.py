"""What every client refuses: labels and images that would mean another batch.

Of images x the right labels have an update of norm 1.78 here; labels of shape
(B, 1) or (1,) once broadcast to others, -1 was the last class, and K none.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees
from giajax import types
from giajax.clients import aggregate
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.models.classification import mlp
from giajax.tasks import classification

K, B = 3, 4
TASK = classification.classification(K)
NET = mlp.mlp((2, 2, 3), K, widths=(5,))
KEY = jax.random.key(0)
MESSAGE = types.ServerMessage(NET.init(jax.random.key(1)))
X = jax.random.uniform(jax.random.key(2), (B, 2, 2, 3))
Y = jnp.arange(B, dtype=jnp.int32) % K


def moments_of(client):
  """Returns the client's other form, called as its update is."""

  def call(key, message, batch):
    return client.moments(key, message, batch, message.variables.params)

  return call


@functools.cache
def calls():
  """Returns `(key, message, batch) -> (result, Output)` by name."""
  sgd = fedsgd.fedsgd(NET, TASK)
  one_step = fedavg.fedavg(NET, TASK, num_images=B)
  steps = fedavg.fedavg(NET, TASK, num_images=B, batch_size=2, epochs=2)
  half = fedavg.fedavg(NET, TASK, num_images=B // 2)
  return {
    'fedsgd': sgd.update,
    'fedsgd moments': moments_of(sgd),
    'fedavg': steps.update,
    'fedavg moments': moments_of(one_step),
    'aggregate of fedsgd': aggregate.aggregate(sgd, 2).update,
    'aggregate of fedavg': aggregate.aggregate(half, 2).update,
    'aggregate moments': moments_of(aggregate.aggregate(sgd, 2)),
  }


NAMES = (
  'fedsgd',
  'fedsgd moments',
  'fedavg',
  'fedavg moments',
  'aggregate of fedsgd',
  'aggregate of fedavg',
  'aggregate moments',
)
SHAPES = (Y[:, None], Y[:1], Y.astype(jnp.float32), jnp.eye(B))
VALUES = (Y.at[1].set(-1), Y.at[1].set(K), 2 * jax.nn.one_hot(Y, K))


def test_every_form_is_tested():
  assert set(calls()) == set(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_right_labels_of_both_kinds(name):
  call = jax.jit(calls()[name])
  hard = call(KEY, MESSAGE, types.Batch(X, Y))[0]
  soft = call(KEY, MESSAGE, types.Batch(X, jax.nn.one_hot(Y, K)))[0]
  assert max(float(jnp.abs(v).max()) for v in jax.tree.leaves(hard)) > 0
  jax.tree.map(
    lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-6),
    hard,
    soft,
  )


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('y', SHAPES, ids=['column', 'one', 'floats', 'eye'])
def test_labels_of_another_shape_are_refused_while_tracing(name, y):
  call = calls()[name]
  for run in (call, jax.jit(call)):
    with pytest.raises(ValueError, match=r'^Expected labels of \d images'):
      run(KEY, MESSAGE, types.Batch(X, y))


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('y', VALUES, ids=['-1', 'K', 'twice'])
def test_labels_that_are_no_class_are_refused_where_concrete(name, y):
  with pytest.raises(ValueError, match=r'^Expected (soft )?labels'):
    calls()[name](KEY, MESSAGE, types.Batch(X, y))


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize(
  ('x', 'message'),
  [
    (X[..., :1], r'of shape \(2, 2, 3\) for mlp; got shape=\(\d, 2, 2, 1\)'),
    (X[:, :1], r'got shape=\(\d, 1, 2, 3\)'),
    ((255 * X).astype(jnp.uint8), 'dtype=uint8; divide bytes by 255'),
  ],
  ids=['channels', 'height', 'bytes'],
)
def test_images_of_another_form_are_refused_while_tracing(name, x, message):
  call = calls()[name]
  for run in (call, jax.jit(call)):
    with pytest.raises(ValueError, match=f'^Expected images.*{message}'):
      run(KEY, MESSAGE, types.Batch(x, Y))


def test_the_update_of_the_right_labels_is_the_mean_gradient():
  delta = fedsgd.fedsgd(NET, TASK).update(KEY, MESSAGE, types.Batch(X, Y))[0]

  def loss(params):
    out = NET.apply(MESSAGE.variables._replace(params=params), X).out
    chosen = jnp.take_along_axis(jax.nn.log_softmax(out), Y[:, None], 1)
    return -chosen.mean()

  expected = jax.grad(loss)(MESSAGE.variables.params)
  error = jax.tree.map(jnp.subtract, delta.delta, expected)
  assert trees.squared_norm(error) < 1e-10 * trees.squared_norm(expected)


@pytest.mark.parametrize('count', [3, 5])
def test_fedavg_refuses_another_number_of_images(count):
  client = fedavg.fedavg(NET, TASK, num_images=B, epochs=2, batch_size=2)
  single = fedavg.fedavg(NET, TASK, num_images=B)
  x = jnp.zeros((count, 2, 2, 3))
  batch = types.Batch(x, jnp.zeros(count, jnp.int32))
  with pytest.raises(ValueError, match=f'Expected 4 images.*got {count}'):
    client.update(KEY, MESSAGE, batch)
  with pytest.raises(ValueError, match=f'Expected 8 images.*got {count}'):
    client.unrolled(KEY, MESSAGE, batch)
  with pytest.raises(ValueError, match=f'Expected 4 images.*got {count}'):
    moments_of(single)(KEY, MESSAGE, batch)
