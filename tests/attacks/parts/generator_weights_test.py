"""Tests of the weights of a generator as what an attack changes."""

import functools

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import keys
from giajax import types
from giajax import world as worlds
from giajax.attacks.parts import match
from giajax.attacks.parts import optimizers
from giajax.attacks.parts import variables
from giajax.clients import fedsgd
from giajax.generative import base
from giajax.generative import ci_net
from giajax.generative import dcgan
from giajax.generative import grnn
from giajax.models import layers
from giajax.models.classification import mlp
from giajax.tasks import classification

B, K, SHAPE = 2, 3, (8, 8, 1)
TASK = classification.classification(K)


class Linear(nnx.Module):
  """Pixels that are linear in the latent."""

  def __init__(self, rngs):
    self.fc = layers.Linear(4, 64, rngs=rngs)

  def stages(self, y):
    """Returns the only stage."""
    return {'fc': lambda z: self.fc(z).reshape(-1, *SHAPE)}


@functools.cache
def world(batch_size=B):
  net = mlp.mlp(SHAPE, K, widths=(), normalisation='none')
  return worlds.World(net, TASK, fedsgd.fedsgd(net, TASK), batch_size)


@functools.cache
def observed(batch_size=B):
  """Returns what a server sees of images of different classes."""
  net = world().net
  x = jax.random.uniform(jax.random.key(1), (batch_size, *SHAPE))
  batch = types.Batch(x, jnp.arange(batch_size))
  message = types.ServerMessage(net.init(jax.random.key(0)))
  update = world().client.update(jax.random.key(0), message, batch)[0]
  return types.Observation(message, update, {'labels': batch.y}), batch


def test_a_linear_generator_ends_with_the_image():
  """A row of the layer's gradient is the image, times that of the bias."""
  generator = base.from_module(Linear, base.Spec('linear', (4,), SHAPE))
  attack = match.match(
    world(1),
    variable=variables.generator_weights(world(1), generator),
    distance='l2',
    optimizer=optimizers.adam(optimizers.step_decay(1500)),
    num_steps=1500,
    learning_rate=0.02,
  )
  obs, batch = observed(1)
  hp = dict(attack.hparams)

  @jax.jit
  def run(key):
    def step(state, t):
      return attack.step(keys.at(key, t), state, obs, hp)[0], None

    start = attack.init(key, obs, hp)
    end = jax.lax.scan(step, start, jnp.arange(attack.num_steps))[0]
    return start, end, attack.read(end, obs, hp)

  start, end, found = run(jax.random.key(3))
  assert attack.needs == {'model', 'batch_size', 'labels'}
  assert np.abs(found.batch.x - batch.x).max() < 1e-2
  assert abs(found.score) < 1e-4
  # The image is the weights times the latent, which stays where it was.
  tree = end.inner.variable
  np.testing.assert_array_equal(tree['z'], start.inner.variable['z'])
  fc = tree['params']['fc']
  pixels = tree['z'] @ fc['kernel'] + fc['bias']
  np.testing.assert_allclose(pixels.reshape(1, *SHAPE), batch.x, atol=1e-2)


def test_vectors_of_spectral_norms_follow_the_weights():
  generator = ci_net.ci_net(SHAPE, latent=3, width=4)
  variable = variables.generator_weights(world(), generator)
  tree = variable.init(jax.random.key(0), *observed()[:1], {})
  renewed = variable.project(tree)
  path = ('progression_8', 'conv', '0')

  def at(tree, *names):
    for name in (*path, *names):
      tree = tree[name]
    return np.asarray(tree)

  matrix = at(tree['params'], 'kernel').reshape(-1, 4).T
  v = at(tree['stats'], 'u0') @ matrix
  u = v @ matrix.T
  np.testing.assert_allclose(
    at(renewed['stats'], 'u0'), u / np.linalg.norm(u), rtol=1e-5
  )
  for name in ('params', 'z'):
    jax.tree.map(np.testing.assert_array_equal, renewed[name], tree[name])


def test_labels_are_granted_or_made_and_taken_where_wanted():
  obs, batch = observed()
  made = variables.generator_weights(
    world(), grnn.grnn(SHAPE, K, latent=3, width=2)
  )
  assert made.needs == frozenset()
  key = jax.random.key(0)
  bare = obs._replace(side={})
  y = made.batch(made.init(key, bare, {}), bare).y
  assert y.shape == (B, K)
  np.testing.assert_allclose(y.sum(1), 1, rtol=1e-6)
  taken = variables.generator_weights(
    world(), dcgan.conditional_dcgan(SHAPE, K, latent=3, embedding=2, width=2)
  )
  assert taken.needs == {'labels'}
  tree = taken.init(key, obs, {})
  tree['params']['embed']['table'] *= 100.0
  images = taken.batch(tree, obs)
  np.testing.assert_array_equal(images.y, batch.y)
  other = obs._replace(side={'labels': batch.y[::-1]})
  assert np.abs(taken.batch(tree, other).x - images.x).max() > 1e-3


def test_generators_of_other_images_or_classes_are_refused():
  other = (
    (ci_net.ci_net((16, 16, 1), width=4), 'of images'),
    (ci_net.ci_net((8, 8, 3), width=4), 'of images'),
    (grnn.grnn(SHAPE, K + 1, width=4), 'of 3 classes'),
    (dcgan.conditional_dcgan(SHAPE, K + 1, width=4), 'of 3 classes'),
  )
  for generator, expected in other:
    with pytest.raises(ValueError, match=f'^Expected a generator {expected}'):
      variables.generator_weights(world(), generator)
