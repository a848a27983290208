"""FGLA: features from the classifier's gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks.generative import fgla
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.generative import base as generative
from giajax.generative import GENERATORS
from giajax.models import inspect
from giajax.models import subset
from giajax.models.classification import lenet
from giajax.models.classification import mlp
from giajax.tasks import classification

K = 12
TASK = classification.classification(K)
NET = lenet.lenet((16, 16, 3), K, activation='relu', init='torch')
D = 12 * 4 * 4
WEIGHTS = NET.init(jax.random.key(0))


def world(batch_size, net=NET, client=fedsgd.fedsgd):
  return worlds.World(net, TASK, client(net, TASK), batch_size)


def images(count):
  return jax.random.uniform(jax.random.key(1), (count, 16, 16, 3))


def sure(factor):
  """Returns weights whose classifier is surer of its classes."""
  kernel = factor * WEIGHTS.params['fc']['kernel']
  return WEIGHTS._replace(
    params=trees.replaced(WEIGHTS.params, {'fc.kernel': kernel})
  )


@functools.partial(jax.jit, static_argnums=3)
def read(x, y, weights, client=fedsgd.fedsgd):
  """Returns the features that are read, and the true ones."""
  pictured, batch = world(len(x), client=client), types.Batch(x, y)
  message, tap = types.ServerMessage(weights), inspect.features(NET)
  update, output = pictured.client.update(
    jax.random.key(0), message, batch, [tap]
  )
  obs = types.Observation(message, update, {'labels': y})
  return fgla.latents(pictured)(obs, y), output.taps[tap]


def cosine(a, b):
  dots = jnp.sum(a * b, 1)
  return dots / (jnp.linalg.norm(a, axis=1) * jnp.linalg.norm(b, axis=1))


@pytest.mark.parametrize('factor', [1.0, 1000.0])
@pytest.mark.parametrize('rate', [None, 0.1])
def test_one_image_has_its_own_features(rate, factor):
  client = fedsgd.fedsgd
  if rate:
    client = functools.partial(fedavg.fedavg, num_images=1, learning_rate=rate)
  found, true = read(images(1), jnp.array([3]), sure(factor), client)
  assert found.shape == (1, D) and true.max() > 0.01
  np.testing.assert_allclose(found, true, rtol=1e-3, atol=5e-5)


def test_images_of_different_labels_have_nearly_their_own():
  y = jnp.array([7, 0, 11, 4])
  found, true = read(images(4), y, WEIGHTS)
  own = cosine(found, true)
  assert own.min() > 0.995
  np.testing.assert_allclose(
    jnp.linalg.norm(found, axis=1), jnp.linalg.norm(true, axis=1), rtol=0.1
  )
  # Images of noise are alike; what tells them apart is read as well.
  apart = cosine(found - true.mean(0), true - true.mean(0))
  others = cosine(found - true.mean(0), jnp.roll(true, 1, 0) - true.mean(0))
  assert apart.min() > 0.9 and others.max() < 0.5


def test_a_trained_classifier_hides_the_features_of_which_it_is_sure():
  """What one image adds to the other rows outweighs it."""
  x, y = images(4), jnp.array([7, 0, 11, 4])
  true = read(x, y, WEIGHTS)[1]
  logits = jnp.array([1.0, 1.0, 14.0, 1.0])[:, None] * jax.nn.one_hot(y, K)
  kernel = jnp.linalg.pinv(true) @ logits
  trained = trees.replaced(
    WEIGHTS.params, {'fc.kernel': kernel, 'fc.bias': jnp.zeros(K)}
  )
  found, true = read(x, y, WEIGHTS._replace(params=trained))
  centre = true.mean(0)
  own = cosine(found - centre, true - centre)
  assert own[2] < 0.5 and own[jnp.array([0, 1, 3])].min() > 0.9


def test_images_of_one_label_share_the_mean_of_their_features():
  x = images(4)
  found, true = read(x, jnp.array([5, 2, 5, 5]), WEIGHTS)
  np.testing.assert_allclose(found[0], found[2], rtol=1e-5)
  mean = true[jnp.array([0, 2, 3])].mean(0, keepdims=True)
  centre = true.mean(0)
  assert cosine(found[:1] - centre, mean - centre) > 0.9


def test_an_update_of_zeros_gives_zeros():
  zeros = jax.tree.map(jnp.zeros_like, WEIGHTS.params)
  message = types.ServerMessage(WEIGHTS)
  obs = types.Observation(message, types.Update(zeros, {}, jnp.int32(2)), {})
  found = fgla.latents(world(2))(obs, jnp.array([1, 2]))
  np.testing.assert_array_equal(found, np.zeros((2, D)))


def planted(x, size=D):
  """Returns a decoder that knows the images."""
  spec = generative.Spec('planted', (size,), (16, 16, 3), latents='update')

  def apply(variables, h, y=None, **stages):
    assert h.shape == (len(x), size) and not stages
    return generative.Output(x, {})

  generator = generative.Generator(lambda key: None, apply, spec, ())
  return generative.Trained(generator, types.Variables({}, {}), '')


def test_the_score_is_the_distance_of_updates():
  x, y = images(2), jnp.array([2, 6])
  net = mlp.mlp((16, 16, 3), K, widths=(5,))
  message = types.ServerMessage(net.init(jax.random.key(0)))
  client = world(2, net).client
  update = client.update(jax.random.key(0), message, types.Batch(x, y))[0]
  obs = types.Observation(message, update, {'labels': y})

  def attack(made):
    return fgla.fgla(world(2, net), generator=planted(made, 5))

  both = jnp.stack([x, 1 - x])
  found = jax.jit(jax.vmap(lambda made: attack(made).read({}, obs, {})))(both)
  right, wrong = found.score
  assert right < 1e-5 and wrong > 0.01
  np.testing.assert_array_equal(found.batch.x, both)
  np.testing.assert_array_equal(found.batch.y, [y, y])
  needs = {'model', 'batch_size', 'auxiliary_data', 'labels'}
  assert attack(x).needs == needs


@pytest.mark.parametrize(
  ('batch_size', 'include', 'expected'),
  [
    (K, ('*',), 'batch_size < 12 classes for fgla'),
    (2, ('fc.kernel',), 'bias of the classifier'),
    (2, ('body.*',), 'covers the classifier'),
  ],
)
def test_updates_that_say_too_little_are_refused(batch_size, include, expected):
  net = subset.subset(NET, include=include)
  with pytest.raises(ValueError, match=f'^Expected .*{expected}') as error:
    fgla.fgla(world(batch_size, net), generator=planted(images(2)))
  assert '\n' not in str(error.value)


def test_decoders_of_other_features_and_images_are_refused():
  cases = (
    (planted(images(2), 5), '192 numbers of an update to 1 images for lenet'),
    (generator('dcgan', (8, 8, 3), latent=D), 'a generator of images'),
  )
  for trained, expected in cases:
    with pytest.raises(ValueError, match=f'^Expected .*{expected}'):
      fgla.fgla(world(2), generator=trained)
  other = worlds.World(mlp.mlp((8, 8, 3), K), TASK, world(2).client, 2)
  with pytest.raises(ValueError, match=r'^Expected a generator of images'):
    fgla.fgla(other, generator=planted(images(2)))


def generator(row, *args, **kwargs):
  made = GENERATORS[row](*args, width=2, **kwargs)
  return generative.Trained(made, types.Variables({}, {}), '')
