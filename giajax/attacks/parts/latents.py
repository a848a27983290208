"""What attacks through a trained generator optimise.

The generator's weights and BatchNorm statistics come from its file, and it runs
in inference mode, so that the images of a batch do not depend on each other.
Where it takes labels, they are those of the observation. All start from latents
z of N(0, I), which is what such generators are trained on.

Variables of several stages hold the number of the stage that the candidate
belongs to in the leaf 'stage', which no gradient reaches; neither does one
reach what another stage optimises. `compose.in_stages` begins the stages.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from giajax import keys
from giajax import require
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks.parts import variables
from giajax.generative import base as generative
from giajax.ops import anywhere

_LEAST_VARIANCE = 1e-12


def latents(
  world: worlds.World, trained: generative.Trained, *, moments: float = 0.0
) -> variables.Variable:
  """The latents of a trained generator, one for each image.

  The penalty 'moments' of a latent whose numbers have mean m and variance s^2
  is -(1 + ln s^2 - m^2 - s^2) / 2, the divergence of N(m, s^2) from N(0, 1), as
  Li et al. have it, arXiv 2203.15696; it is averaged over the images.

  Args:
    world: the attacker's picture of the system.
    trained: the generator, of images like the network's.
    moments: the weight of the penalty; traced.

  Raises:
    ValueError: see `variables.require_generator`.
  """
  draw, images = _begin(world, trained)

  def batch(tree, obs):
    y = variables.targets(world, obs)
    return types.Batch(images(tree['z'], y), y)

  def penalty(tree):
    z = tree['z'].reshape(world.batch_size, -1)
    mean, variance = z.mean(axis=1), z.var(axis=1)
    log = jnp.log(jnp.maximum(variance, _LEAST_VARIANCE))
    return jnp.mean(0.5 * (mean**2 + variance - 1 - log))

  return variables.Variable(
    lambda key, obs, hp: {'z': draw(key)},
    batch,
    lambda tree: tree,
    _needs(world),
    terms={'moments': (moments, penalty)},
  )


def latents_then_weights(
  world: worlds.World, trained: generative.Trained
) -> variables.Variable:
  """Latents, and then the generator's weights, a copy of them for each image.

  What changes in the second stage is the difference to the weights in the file.

  Args:
    world: the attacker's picture of the system.
    trained: the generator, of images like the network's.

  Raises:
    ValueError: see `variables.require_generator`.
  """
  draw, images = _begin(world, trained)
  count = world.batch_size

  def init(key, obs, hp):
    del obs, hp
    z = draw(key)
    delta = jax.tree.map(
      lambda w: jnp.zeros((count, *w.shape), z.dtype), trained.variables.params
    )
    return {'z': z, 'delta': delta, 'stage': jnp.zeros((), z.dtype)}

  def batch(tree, obs):
    y = variables.targets(world, obs)
    first = jax.lax.stop_gradient(tree['stage']) == 0
    z = trees.where(first, tree['z'], jax.lax.stop_gradient(tree['z']))
    still = jax.lax.stop_gradient(tree['delta'])
    delta = trees.where(first, still, tree['delta'])

    def apart():
      def image(z, y, delta):
        return images(z[None], trees.single(y), delta)[0]

      return jax.vmap(image)(z, y, delta)

    # With no difference, all images come from one pass of one network.
    x = jax.lax.cond(anywhere.anywhere(~first), apart, lambda: images(z, y))
    return types.Batch(x, y)

  def enter(tree, stage, obs):
    del obs
    return {**tree, 'stage': stage.astype(tree['stage'].dtype)}

  return variables.Variable(
    init, batch, lambda tree: tree, _needs(world), enter=enter
  )


def latents_then_features(
  world: worlds.World,
  trained: generative.Trained,
  *,
  layers: int = 0,
  radius: float,
) -> variables.Variable:
  """Latents, and then features between the generator's stages, one by one.

  Latents stay on the sphere of their start. Features stay in an l1 ball around
  what they are when their stage begins, whose radius is in proportion to the
  number of features of an image.

  Args:
    world: the attacker's picture of the system.
    trained: the generator, of images like the network's.
    layers: the number of boundaries between stages of the generator at which
      features are optimised, from the first on; 0 for all.
    radius: the radius of the ball for each feature of an image, > 0.

  Raises:
    ValueError: a number out of range; see `variables.require_generator`.
  """
  generator = trained.generator
  most = len(generator.stages) - 1
  require.whole(
    layers,
    'layers',
    least=0,
    most=most,
    advice=f'{generator.spec.name} has {most}; use 0 for all',
  )
  require.positive(radius, 'radius', advice='use 0.02')
  names = [str(k + 1) for k in range(layers or most)]
  draw, images = _begin(world, trained)

  def features(tree, obs):
    """Yields the features at each boundary, from the candidate's stage on."""
    h, y = tree['z'], variables.targets(world, obs)
    for k, name in enumerate(names):
      h = images(h, y, start=k, stop=k + 1)
      if 'stage' in tree:
        h = jnp.where(tree['stage'] == k + 1, tree['h'][name], h)
      yield name, h

  def init(key, obs, hp):
    del hp
    z = draw(key)
    h = dict(features({'z': z}, obs))
    anchor = {'z': z, 'h': h}
    return {**anchor, 'anchor': anchor, 'stage': jnp.zeros((), z.dtype)}

  def batch(tree, obs):
    y, h = variables.targets(world, obs), dict(features(tree, obs))
    return types.Batch(images(h[names[-1]], y, start=len(names)), y)

  def project(tree):
    anchor = tree['anchor']
    h = {
      name: anchor['h'][name]
      + l1_ball(tree['h'][name] - anchor['h'][name], radius)
      for name in names
    }
    return {**tree, 'z': on_sphere(tree['z'], anchor['z']), 'h': h}

  def enter(tree, stage, obs):
    now = dict(features(tree, obs))

    def entered(h):
      return {
        name: jnp.where(stage == k + 1, now[name], h[name])
        for k, name in enumerate(names)
      }

    anchor = {**tree['anchor'], 'h': entered(tree['anchor']['h'])}
    begun = stage.astype(tree['stage'].dtype)
    return {**tree, 'h': entered(tree['h']), 'anchor': anchor, 'stage': begun}

  return variables.Variable(init, batch, project, _needs(world), enter=enter)


def l1_ball(x: types.Array, radius: float) -> types.Array:
  """Returns the nearest arrays whose absolute values have a bounded mean.

  Each x_i becomes sign(x_i) max(|x_i| - c, 0). Duchi, Shalev-Shwartz, Singer
  and Chandra, Efficient Projections onto the l1-Ball, ICML 2008.

  Args:
    x: [M, ...]; each of the M arrays is projected.
    radius: the largest mean of absolute values, > 0.
  """
  flat = x.reshape(len(x), -1)
  size = jnp.abs(flat)
  most = radius * flat.shape[1]
  largest = -jnp.sort(-size, axis=1)
  rank = jnp.arange(1, flat.shape[1] + 1)
  # c for each number of entries that are not 0; the largest one is right.
  shifts = (jnp.cumsum(largest, axis=1) - most) / rank
  shift = jnp.maximum(shifts.max(axis=1, keepdims=True), 0.0)
  moved = jnp.sign(flat) * jnp.maximum(size - shift, 0.0)
  return moved.reshape(x.shape)


def on_sphere(z: types.Array, like: types.Array) -> types.Array:
  """Returns each of [M, ...] with the norm of the one in `like`."""
  axes = tuple(range(1, z.ndim))

  def norm(v):
    return trees.safe_sqrt(jnp.sum(v * v, axis=axes, keepdims=True))

  return z * (norm(like) / norm(z))


def _needs(world: worlds.World) -> frozenset[str]:
  return frozenset({*world.task.facts, 'pretrained_generator'})


def _begin(
  world: worlds.World, trained: generative.Trained
) -> tuple[Callable[..., types.Array], Callable[..., types.Array]]:
  """Returns how latents are drawn, and images or features made of them."""
  generator = trained.generator
  variables.require_generator(world, generator)
  if generator.takes_labels:
    require.exclusive_classes(world, generator.spec.name)
  if generator.spec.latents == 'update':
    raise ValueError(
      'Expected a generator whose latents are free, such as dcgan; got '
      f'{generator.spec.name}, which reads updates; use the attack of its name'
    )
  shape = (world.batch_size, *generator.spec.latent_shape)

  def draw(key):
    return keys.normal(keys.named(key, 'z'), shape)

  def images(h, y, delta=None, **stages):
    weights = trees.widened(trained.variables)
    if delta is not None:
      params = jax.tree.map(jnp.add, weights.params, delta)
      weights = weights._replace(params=params)
    own = y if generator.takes_labels else None
    return generator.apply(weights, h, own, **stages).out

  return draw, images
