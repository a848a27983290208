"""Tests of giajax.clients.fedavg against one FedSGD step after another."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.models.classification import mlp
from giajax.models.classification import resnet
from giajax.tasks import classification

K, N = 3, 4
TASK = classification.classification(K)
KEY = jax.random.key(0)
RATE = 0.3


@functools.cache
def net(normed=False):
  if normed:
    return resnet.resnet((4, 4, 1), K, blocks=(1,), width=0.05)
  return mlp.mlp((4, 4, 1), K, widths=(5,), activation='tanh')


@functools.cache
def sample(normed=False):
  x = jax.random.uniform(jax.random.key(1), (N, 4, 4, 1))
  variables = net(normed).init(jax.random.key(2))
  return types.ServerMessage(variables), types.Batch(x, jnp.arange(N) % K)


def make(normed=False, **kwargs):
  usual = dict(num_images=N, learning_rate=RATE, shuffle=False)
  return fedavg.fedavg(net(normed), TASK, **{**usual, **kwargs})


def one_by_one(message, batch, normed, epochs, size, momentum, train_mode):
  """Returns the weights and buffers after the same steps of FedSGD."""
  client = fedsgd.fedsgd(net(normed), TASK, train_mode=train_mode)
  gradient = jax.jit(client.update)
  velocity = jax.tree.map(jnp.zeros_like, message.variables.params)
  for s in range(epochs * N // size):
    first = s * size % N
    part = jax.tree.map(lambda v, a=first: v[a : a + size], batch)
    update, _ = gradient(KEY, message, part)
    velocity = jax.tree.map(
      lambda v, g: momentum * v + g, velocity, update.delta
    )
    params = jax.tree.map(
      lambda p, v: p - RATE * v, message.variables.params, velocity
    )
    message = types.ServerMessage(
      message.variables._replace(params=params, stats=update.stats)
    )
  return message.variables


def close(a, b, **kwargs):
  jax.tree.map(
    lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-6), a, b
  )


@pytest.mark.parametrize(
  ('normed', 'epochs', 'size', 'momentum', 'train_mode'),
  [
    (False, 1, 4, 0.0, False),
    (False, 3, 2, 0.9, False),
    (True, 2, 2, 0.5, True),
    (True, 2, 1, 0.0, False),
  ],
)
def test_equals_steps_taken_one_by_one(
  normed, epochs, size, momentum, train_mode
):
  message, batch = sample(normed)
  client = make(
    normed,
    epochs=epochs,
    batch_size=size,
    momentum=momentum,
    train_mode=train_mode,
  )
  assert client.local_steps == epochs * N // size
  update, output = jax.jit(client.update)(KEY, message, batch)
  end = one_by_one(message, batch, normed, epochs, size, momentum, train_mode)
  close(
    update.delta,
    jax.tree.map(jnp.subtract, end.params, message.variables.params),
  )
  close(update.stats, end.stats)
  close(output.stats, end.stats)
  assert update.size == N and output.out.shape == (size, K)


def test_derivative_to_the_images_equals_that_of_the_steps():
  message, batch = sample()

  def scanned(x):
    delta = (
      make(epochs=2, batch_size=2, momentum=0.5)
      .update(KEY, message, batch._replace(x=x))[0]
      .delta
    )
    return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(delta))

  def unrolled(x):
    end = one_by_one(message, batch._replace(x=x), False, 2, 2, 0.5, False)
    delta = jax.tree.map(jnp.subtract, end.params, message.variables.params)
    return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(delta))

  slopes = (jax.jit(jax.grad(way))(batch.x) for way in (scanned, unrolled))
  close(*slopes)


def test_every_epoch_sees_every_image_once():
  """For a small rate the delta is the sum of all gradients, in any order."""
  message, batch = sample()
  tiny = dict(epochs=3, batch_size=1, learning_rate=1e-4)
  ordered = make(**tiny).update(KEY, message, batch)[0].delta
  shuffled = make(**tiny, shuffle=True).update(KEY, message, batch)[0].delta
  for u, v in zip(jax.tree.leaves(ordered), jax.tree.leaves(shuffled)):
    np.testing.assert_allclose(u, v, atol=2e-3 * float(jnp.abs(u).max()))


def test_the_key_orders_the_images():
  message, batch = sample()
  client = make(epochs=2, batch_size=1, shuffle=True)
  one, again, other = (
    client.update(jax.random.key(seed), message, batch)[0].delta
    for seed in (0, 0, 1)
  )
  jax.tree.map(np.testing.assert_array_equal, one, again)
  leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other))
  assert any(float(jnp.abs(u - v).max()) > 1e-4 for u, v in leaves)


def test_many_steps_are_no_larger_a_program_than_two():
  message, batch = sample()

  def equations(epochs):
    client = make(epochs=epochs, batch_size=2)
    return len(str(jax.make_jaxpr(client.update)(KEY, message, batch)))

  assert equations(160) < 1.01 * equations(1)


def test_taps_are_of_all_images_through_the_received_weights():
  message, batch = sample(True)
  client = make(True, epochs=2, batch_size=1)
  _, output = client.update(KEY, message, batch, ('fc.input',))
  direct = net(True).apply(message.variables, batch.x, taps=('fc.input',))
  close(output.taps, direct.taps)


@pytest.mark.parametrize(
  ('kwargs', 'words'),
  [
    ({'epochs': 0}, 'epochs=0'),
    ({'epochs': 10**7}, 'at most 10000000 images in all epochs'),
    ({'batch_size': 0}, 'batch_size=0'),
    ({'batch_size': 3}, 'divides the 4 images'),
    ({'batch_size': -2}, 'batch_size=-2'),
    ({'num_images': 0}, 'divides the 0 images'),
    ({'learning_rate': 0.0}, 'learning_rate=0.0'),
    ({'learning_rate': float('nan')}, 'learning_rate=nan'),
    ({'momentum': 1.0}, 'momentum=1.0'),
  ],
)
def test_bad_arguments(kwargs, words):
  with pytest.raises(ValueError, match=words):
    make(**kwargs)


def test_another_number_of_images_is_refused():
  message, batch = sample()
  with pytest.raises(ValueError, match=r'Expected 4 images.*got 3'):
    make().update(KEY, message, jax.tree.map(lambda v: v[:3], batch))


def _memory(epochs):
  """Returns the bytes that a derivative by the images takes on the way."""
  wide = mlp.mlp((4, 4, 1), K, widths=(64,))
  client = fedavg.fedavg(
    wide, TASK, num_images=256, epochs=epochs, learning_rate=RATE
  )
  message = types.ServerMessage(wide.init(jax.random.key(2)))
  x = jax.random.uniform(jax.random.key(1), (256, 4, 4, 1))

  def distance(x):
    batch = types.Batch(x, jnp.arange(256) % K)
    delta = client.update(KEY, message, batch)[0].delta
    return sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(delta))

  compiled = jax.jit(jax.grad(distance)).lower(x).compile()
  return compiled.memory_analysis().temp_size_in_bytes


def test_the_memory_of_an_attack_hardly_grows_with_the_steps():
  """An activation has 16,384 numbers, and the weights 1,283."""
  few, many = _memory(2), _memory(18)
  assert many - few < 16 * 4 * 16_384 / 2
