"""Tests of what attacks through a trained generator optimise."""

import functools

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import keys
from giajax import types
from giajax import world as worlds
from giajax.attacks.generative import ggl
from giajax.attacks.generative import gias
from giajax.attacks.generative import gifd
from giajax.attacks.parts import latents
from giajax.clients import fedsgd
from giajax.generative import base
from giajax.generative import dcgan
from giajax.models import layers
from giajax.models.classification import mlp
from giajax.tasks import classification

B, K, SHAPE, LATENT = 2, 3, (4, 4, 1), 3
TASK = classification.classification(K)


class Linear(nnx.Module):
  """Two linear stages."""

  def __init__(self, rngs):
    self.first = layers.Linear(LATENT, 5, bias=False, rngs=rngs)
    self.second = layers.Linear(5, 16, rngs=rngs)

  def stages(self, y):
    """Returns the stages by name."""
    return {
      'first': self.first,
      'second': lambda h: self.second(h).reshape(-1, *SHAPE),
    }


@functools.cache
def trained():
  """Returns a linear generator of images around grey."""
  generator = base.from_module(Linear, base.Spec('linear', (LATENT,), SHAPE))
  weights = generator.init(jax.random.key(0))
  params = jax.tree.map(lambda w: 0.3 * w, weights.params)
  params['second']['bias'] = jnp.full(16, 0.5)
  return base.Trained(generator, weights._replace(params=params), '')


@functools.cache
def world(batch_size=B):
  net = mlp.mlp(SHAPE, K, widths=(8,), activation='tanh', normalisation='none')
  return worlds.World(net, TASK, fedsgd.fedsgd(net, TASK), batch_size)


def observed(x):
  """Returns what a server sees of images of different classes."""
  message = types.ServerMessage(world().net.init(jax.random.key(5)))
  batch = types.Batch(x, jnp.arange(len(x)))
  update = world().client.update(jax.random.key(0), message, batch)[0]
  return types.Observation(message, update, {'labels': batch.y})


def images(z):
  return trained().generator.apply(trained().variables, z).out


class Run:
  """An attack that is compiled once, in two chunks of half of its steps."""

  def __init__(self, attack):
    self.attack = attack
    self.half = attack.num_steps // 2

    @jax.jit
    def chunk(state, first, obs, hp):
      def step(state, t):
        return attack.step(keys.at(jax.random.key(3), t), state, obs, hp)

      times = first + jnp.arange(self.half)
      state, infos = jax.lax.scan(step, state, times)
      return state, infos, attack.read(state, obs, hp)

    self.chunk = chunk

  def __call__(self, x, **knobs):
    """Returns the end, and what is read and reported in each half."""
    obs, hp = observed(x), {**self.attack.hparams, **knobs}
    hp = {name: jnp.float32(value) for name, value in hp.items()}
    state = jax.jit(self.attack.init)(jax.random.key(3), obs, hp)
    state, first, alone = self.chunk(state, jnp.int32(0), obs, hp)
    state, second, both = self.chunk(state, jnp.int32(self.half), obs, hp)
    return state, (alone, first), (both, second)


FINDERS = {
  'ggl': functools.partial(
    ggl.ggl, evaluations=3_840, population=16, moments=0.0
  ),
  'ggl_adam': functools.partial(ggl.ggl_adam, num_steps=400, moments=0.0),
}


@pytest.mark.parametrize('name', FINDERS)
def test_latents_of_a_linear_generator_are_found(name):
  """The images are those of known latents, one for each, and no others."""
  z = jax.random.normal(jax.random.key(7), (B, LATENT))
  attack = FINDERS[name](world(), generator=trained())
  known = {'model', 'batch_size', 'labels', 'pretrained_generator'}
  assert attack.needs == known
  end, (_, first), (found, second) = Run(attack)(images(z))
  assert first.finite.all() and second.finite.all()
  np.testing.assert_allclose(end.variable['z'], z, atol=0.05)
  np.testing.assert_allclose(found.batch.x, images(z), atol=0.02)
  assert found.score < 1e-3 * first.terms['matching'][0]


STAGED = {
  'gias': functools.partial(
    gias.gias,
    num_steps=240,
    latent_steps=120,
    learning_rate=0.1,
    total_variation=0.0,
  ),
  'gifd': functools.partial(
    gifd.gifd, num_steps=240, radius=3.0, total_variation=0.0, l2=0.0
  ),
}


@pytest.fixture(scope='module', params=sorted(STAGED))
def staged(request):
  return Run(STAGED[request.param](world(), generator=trained()))


def test_later_stages_go_on_where_the_generator_ends(staged):
  """Images that features make, and no latent does."""
  h = jax.random.normal(jax.random.key(7), (B, 5))
  x = trained().generator.apply(trained().variables, h, start=1).out
  end, (alone, first), (both, second) = staged(x)
  assert both.score < 0.7 * alone.score
  close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-6)
  # The score is that of the sample that is returned: the least of all.
  close(both.score, second.terms['matching'].min())
  # The second stage begins at the best candidate of the first.
  close(second.terms['matching'][0], first.terms['matching'].min())
  tree = end.best.variable
  assert tree['stage'] == 1
  if 'delta' in tree:
    for leaf in jax.tree.leaves(tree['delta']):
      assert np.abs(leaf[0] - leaf[1]).max() > 1e-3  # one for each image
  else:
    moved = tree['h']['1'] - tree['anchor']['h']['1']
    assert 0 < np.abs(moved).mean(axis=1).max() <= 3.0 + 1e-4
    norms = [np.linalg.norm(t['z'], axis=1) for t in (tree, tree['anchor'])]
    np.testing.assert_allclose(*norms, rtol=1e-5)


def test_a_result_is_never_worse_than_that_of_latents_alone(staged):
  """Planted: second stages that only do harm."""
  z = jax.random.normal(jax.random.key(7), (B, LATENT))
  harm = {'weight_learning_rate': 50.0}
  if 'l2' in staged.attack.hparams:
    # A prior that overrules the distance; of the first stage, too.
    harm = {'l2': 50.0}
  _, (alone, _), (both, second) = staged(images(z), **harm)
  assert second.terms['matching'][1:].mean() > alone.score
  assert both.score <= alone.score * (1 + 1e-5)


def test_batches_are_searched_image_by_image():
  attack = ggl.ggl(world(), generator=trained(), evaluations=20, population=5)
  assert attack.num_steps == 4
  z = jax.random.normal(jax.random.key(7), (B, LATENT))
  obs = observed(images(z))
  hp, step = dict(attack.hparams), jax.jit(attack.step)
  states = [attack.init(jax.random.key(0), obs, hp)]
  for t in range(2):
    states.append(step(jax.random.key(t), states[-1], obs, hp)[0])
  start, first, second = (state.variable['z'] for state in states)
  np.testing.assert_array_equal(first[1], start[1])
  assert not np.array_equal(first[0], start[0])
  np.testing.assert_array_equal(second[0], first[0])
  assert states[2].loss <= states[1].loss < np.inf


def test_moments_are_least_for_the_prior():
  variable = latents.latents(world(), trained(), moments=0.1)
  weight, penalty = variable.terms['moments']
  assert weight == 0.1
  # By hand: mean 2, variance 1 in one of two images.
  a = jnp.asarray([1.0, -1.0, 0.0]) * np.sqrt(1.5)
  np.testing.assert_allclose(penalty({'z': jnp.stack([a, a])}), 0, atol=1e-6)
  np.testing.assert_allclose(penalty({'z': jnp.stack([a, a + 2])}), 1.0, 1e-5)
  assert np.isfinite(jax.grad(penalty)({'z': jnp.ones((B, 3))})['z']).all()


def test_l1_projection_against_bisection():
  rng = np.random.default_rng(0)
  for size, radius in ((1, 0.1), (7, 0.2), (50, 0.02), (50, 10.0)):
    x = rng.normal(size=(3, size)).astype(np.float32)
    x[0, 0] = 0.0
    found = latents.l1_ball(jnp.asarray(x), radius)
    for row, projected in zip(x.astype(np.float64), found):
      low, high = 0.0, np.abs(row).max()
      for _ in range(60):
        c = (low + high) / 2
        inside = np.maximum(np.abs(row) - c, 0).mean() <= radius
        low, high = (low, c) if inside else (c, high)
      inside = np.abs(row).mean() <= radius
      expected = np.sign(row) * np.maximum(np.abs(row) - high, 0)
      expected = row if inside else expected
      np.testing.assert_allclose(projected, expected, atol=1e-5)


def test_latents_stay_on_their_sphere():
  z, like = (jax.random.normal(jax.random.key(i), (3, 2, 4)) for i in (0, 1))
  found = latents.on_sphere(z, like)
  for a, b, c in zip(z, like, found):
    np.testing.assert_allclose(
      c, a * np.linalg.norm(b) / np.linalg.norm(a), rtol=1e-5
    )


def test_generators_of_other_images_and_too_many_layers_are_refused():
  other = dcgan.dcgan((8, 8, 1), latent=2, width=2)
  weights = base.Trained(other, other.init(jax.random.key(0)), '')
  for factory in (ggl.ggl, ggl.ggl_adam, gias.gias, gifd.gifd):
    with pytest.raises(ValueError, match=r'^Expected a generator of images'):
      factory(world(), generator=weights)
  reads = trained()._replace(
    generator=trained().generator._replace(
      spec=trained().generator.spec._replace(latents='update')
    )
  )
  for factory in (ggl.ggl, ggl.ggl_adam, gias.gias, gifd.gifd):
    with pytest.raises(ValueError, match=r'^Expected a generator whose'):
      factory(world(), generator=reads)
  cases = (
    (gifd.gifd, dict(layers=2), 'layers'),
    (gifd.gifd, dict(radius=0.0), 'radius'),
    (gifd.gifd, dict(num_steps=1), 'there are 2 stages'),
    (gias.gias, dict(num_steps=5, latent_steps=6), 'latent_steps'),
    (gias.gias, dict(weight_learning_rate=0.0), 'weight_learning_rate'),
    (ggl.ggl, dict(evaluations=0), 'evaluations'),
  )
  for factory, arguments, expected in cases:
    with pytest.raises(ValueError, match=f'^Expected .*{expected}'):
      factory(world(), generator=trained(), **arguments)
