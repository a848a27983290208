"""Tests of giajax.attacks.closed_form.r_gap."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from giajax import world as worlds
from giajax.attacks.closed_form import r_gap
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.metrics import METRICS
from giajax.models import inspect
from giajax.models import subset
from giajax.models.classification import cnn6
from giajax.models.classification import convnet
from giajax.models.classification import lenet
from giajax.models.classification import mlp
from giajax.tasks import classification

K = 5
TASK = classification.classification(K)
WIDTHS = (12, 36, 16, 16, 16, 16)


def world(net, batch_size=1, client=fedsgd.fedsgd):
  return worlds.World(net, TASK, client(net, TASK), batch_size)


def read(net, x, y, change=lambda delta: delta, client=fedsgd.fedsgd):
  """Returns what the attack reads from the update of one image."""
  w = world(net, client=client)
  attack = r_gap.r_gap(w)
  message = types.ServerMessage(net.init(jax.random.key(0)))

  def run(image):
    batch = types.Batch(*(v[None] for v in image))
    update = w.client.update(jax.random.key(0), message, batch)[0]
    update = update._replace(delta=change(update.delta))
    obs = types.Observation(message, update, {})
    return attack.read(attack.init(jax.random.key(0), obs, {}), obs, {})

  return jax.jit(lambda *images: jax.lax.map(run, images))(x, y)


def draws(net, count=3):
  x = jax.random.uniform(jax.random.key(1), (count, *net.spec.image_shape))
  return x, jax.random.randint(jax.random.key(2), (count,), 0, K)


@pytest.mark.parametrize(
  'net',
  [
    cnn6.cnn6((8, 9, 3), K, widths=WIDTHS, normalisation='cifar10'),
    lenet.lenet((8, 8, 3), K, activation='leaky_relu', init='torch'),
    mlp.mlp((4, 3, 3), K, widths=(24, 16)),
  ],
  ids=['without biases', 'with biases', 'linear layers and ReLU'],
)
def test_finds_random_images_and_labels(net):
  x, y = draws(net)
  found = read(net, x, y)
  assert found.valid.all()
  assert METRICS['psnr'].score(found.batch.x[:, 0], x).min() >= 45
  np.testing.assert_array_equal(found.batch.y[:, 0], y)
  assert found.score.max() < 1e-4


def test_one_local_step_tells_as_much():
  net = mlp.mlp((4, 3, 3), K, widths=(16,), activation='leaky_relu')
  x, y = draws(net)
  client = functools.partial(fedavg.fedavg, num_images=1)
  found = read(net, x, y, client=client)
  assert METRICS['psnr'].score(found.batch.x[:, 0], x).min() >= 45


def test_noise_raises_the_score():
  net = mlp.mlp((4, 3, 3), K, widths=(24, 16))

  def noisy(delta):
    def draw(v):
      return v + v.std() * jax.random.normal(jax.random.key(3), v.shape)

    return jax.tree.map(draw, delta)

  assert read(net, *draws(net), noisy).score.min() > 0.1


def test_a_gradient_of_nothing_finds_nothing():
  net = mlp.mlp((4, 3, 3), K, widths=(16,), activation='leaky_relu')
  nothing = functools.partial(jax.tree.map, jnp.zeros_like)
  found = read(net, *draws(net, 1), nothing)
  assert not found.valid.any()
  assert np.isfinite(found.batch.x).all() and np.isfinite(found.score).all()
  start = r_gap._start(jnp.ones((6, K)), jnp.zeros((6, K)), None, 0)
  assert not any(part.any() for part in start)


def test_the_start_without_a_bias_is_that_with_one():
  kernel, x = (
    jax.random.normal(jax.random.key(i), shape)
    for i, shape in enumerate(((6, K), (6,)))
  )
  k = jax.nn.softmax(x @ kernel) - jax.nn.one_hot(3, K)
  gradient = jnp.outer(x, k)
  for given in (None, k):
    found = r_gap._start(kernel, gradient, given, 3)
    np.testing.assert_allclose(found[0][0], x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1][0], k, rtol=1e-4, atol=1e-5)


def test_a_chain_tells_its_slopes():
  links = inspect.chain(cnn6.cnn6((8, 9, 3), K, widths=WIDTHS))
  assert [link.path for link in links] == [f'body.{i}.layer' for i in range(7)]
  assert [link.slope for link in links] == pytest.approx([0.2] * 6 + [1])
  assert links[0].output == (1, 5, 5, 12)
  links = inspect.chain(lenet.lenet((8, 8, 1), K, activation='relu'))
  assert [link.slope for link in links] == [0, 0, 0, 0, 1]
  # The second of these lone units gives 0 or more, whatever the slope.
  with pytest.raises(ValueError, match='nothing below zero'):
    inspect.chain(mlp.mlp((2, 2, 1), K, widths=(1, 1)))


def test_refusals():
  small = cnn6.cnn6((8, 8, 3), K, widths=WIDTHS)
  several = functools.partial(fedavg.fedavg, num_images=1, epochs=2)
  part = subset.subset(small, freeze=('body.2.*',))
  for wrong, options, message in (
    (world(small, 2), {}, 'batch_size=2'),
    (world(small, 1, several), {}, 'local_steps=2'),
    (world(small), {'iterations': 0}, 'iterations=0'),
    (world(part), {}, r'without body\.2\.layer\.kernel'),
    (world(convnet.convnet((9, 9, 3), K, width=1)), {}, 'neither'),
    (world(lenet.lenet((8, 8, 3), K)), {}, 'no ReLU or LeakyReLU'),
    (world(cnn6.cnn6((8, 8, 3), 2, widths=WIDTHS)), {}, 'three classes'),
  ):
    with pytest.raises(ValueError, match=f'Expected .*{message}') as error:
      r_gap.r_gap(wrong, **options)
    assert '\n' not in str(error.value)
