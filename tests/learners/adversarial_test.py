"""Tests of giajax.learners.adversarial."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import keys
from giajax.data import base as data
from giajax.engine import learning
from giajax.generative import autoencoder_decoder
from giajax.generative import dcgan
from giajax.learners import adversarial
from giajax.learners.parts import discriminator as discriminators

# Dark and light images with a little noise: the class decides how light.
_Y = np.arange(64) % 2
_X = np.random.default_rng(0).normal(size=(64, 8, 8, 1)) * 0.02
_X = (_X + np.where(_Y == 1, 0.8, 0.2)[:, None, None, None]).astype(np.float32)
DATASET = data.dataset(
  name='shades',
  image_shape=(8, 8, 1),
  class_names=('dark', 'light'),
  labels=_Y,
  note='',
  read=lambda i: _X[i],
)
GENERATOR = dcgan.conditional_dcgan(
  (8, 8, 1), 2, latent=4, embedding=2, width=4, lowering='lax'
)


def learner(**settings):
  return adversarial.adversarial(
    GENERATOR,
    **{'num_steps': 240, 'batch_size': 16, 'critic_width': 8, **settings},
  )


def test_the_generator_learns_what_the_classes_look_like():
  made = learner(learning_rate=5e-3, average=0.95)
  variables, losses, _ = learning.learn(made, learning.Course(DATASET, 60, 0))
  z = jax.random.normal(jax.random.key(1), (20, 4))
  y = jnp.arange(20) % 2
  x = GENERATOR.apply(variables, z, y).out
  assert float(x[y == 0].mean()) < 0.4 < 0.6 < float(x[y == 1].mean())
  assert {*losses.values} == {
    'discriminator',
    'generator',
    'score of made images',
    'score of real images',
  }


def test_the_losses_of_a_first_step_by_hand():
  """The hinge losses are of the scores, before anything has been learned."""
  made = learner(flip=False)
  state = made.init(jax.random.key(0))
  batch = DATASET.take(np.arange(16))
  after, losses = jax.jit(made.step)(jax.random.key(1), state, batch)
  key = keys.named(keys.at(jax.random.key(1), 0), 'z')
  z = keys.normal(key, (16, 4))
  false = GENERATOR.apply(state.generator, z, batch.y, train=True).out
  critic = discriminators.discriminator((8, 8, 1), 2, width=8)
  right, wrong = (
    critic.apply(state.discriminator, x, batch.y, True)[0]
    for x in (batch.x, false)
  )
  wanted = {
    'discriminator': np.maximum(1 - right, 0).mean()
    + np.maximum(1 + wrong, 0).mean(),
    'score of real images': right.mean(),
    'score of made images': wrong.mean(),
  }
  for name, value in wanted.items():
    np.testing.assert_allclose(losses[name], value, rtol=1e-4, atol=1e-5)
  # After one step, the average is mostly of what was just learned.
  moved = jax.tree.map(
    lambda a, b, c: np.allclose(a, 0.1 * b + 0.9 * c, atol=1e-6),
    after.average,
    state.average,
    after.generator.params,
  )
  assert all(jax.tree.leaves(moved))


def test_what_is_kept_has_the_statistics_of_its_own_images():
  made = learner()
  state = made.init(jax.random.key(0))
  wide = jax.tree.map(lambda leaf: leaf * 3, state.average)
  kept = made.read(jax.random.key(1), state._replace(average=wide))
  z = jax.random.normal(jax.random.key(2), (512, 4))
  y = jnp.arange(512) % 2
  own, other = (
    GENERATOR.apply(kept, z, y, train=train).out for train in (False, True)
  )
  np.testing.assert_allclose(own, other, atol=0.1)


def test_the_discriminator_may_take_several_steps():
  made = learner(critic_steps=2)
  state = made.init(jax.random.key(0))
  after, _ = jax.jit(made.step)(
    jax.random.key(1), state, DATASET.take(np.arange(made.batch_size))
  )
  adam = [memory[0].count for memory in after.memories]
  assert [int(count) for count in adam] == [1, 2]


@pytest.mark.parametrize(
  ('settings', 'words'),
  [
    (dict(batch_size=0), 'got batch_size=0'),
    (dict(learning_rate=0.0), 'got learning_rate=0.0'),
    (dict(average=1.0), 'got average=1.0'),
    (dict(critic_steps=3), 'got batch_size=16, critic_steps=3'),
  ],
)
def test_mistakes(settings, words):
  with pytest.raises(ValueError, match=f'^Expected .*{words}'):
    learner(**settings)


def test_what_is_no_generator_of_samples_is_refused():
  decoder = autoencoder_decoder.autoencoder_decoder((32, 32, 3))
  with pytest.raises(ValueError, match=r'^Expected a generator of samples'):
    adversarial.adversarial(decoder, num_steps=1)
