"""Adversarial training: a generator learns from what tells it from real images.

Goodfellow et al., Generative Adversarial Nets, NIPS 2014, arXiv 1406.2661, with
the hinge losses of Lim and Ye, Geometric GAN, 2017, arXiv 1705.02894,

  L_D = mean relu(1 - D(x, y)) + mean relu(1 + D(G(z, y), y))
  L_G = -mean D(G(z, y), y)

spectral norms in the discriminator D (see `parts.discriminator`), and a moving
average of the generator's weights (Yaz et al., The Unusual Effectiveness of
Averaging in GAN Training, ICLR 2019, arXiv 1806.04498), which are what is kept.
The average has no BatchNorm statistics of its own: they are taken again from
images that it makes, of all classes alike.

D learns `critic_steps` times, each time from fresh images, before G does so
once. All of them follow Adam, whose learning rate falls to 0 in proportion to
the steps that are left.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from giajax import keys
from giajax import require
from giajax import types
from giajax.generative import base as generative
from giajax.learners import base
from giajax.learners.parts import discriminator as discriminators

# Passes behind the statistics of the averaged generator, and images in each.
_PASSES, _IMAGES = 100, 128
_FIRST = 10.0  # steps in which the average is mostly of recent weights


class State(NamedTuple):
  """The two players, their optimisers, and the average of one of them."""

  generator: types.Variables
  discriminator: types.Variables
  memories: tuple[Any, Any]  # of the optimisers: the generator's, the other's
  average: types.Tree  # of the generator's parameters
  count: types.Array  # [] float32, the number of steps done


def adversarial(
  generator: generative.Generator,
  *,
  num_steps: int,
  batch_size: int = 64,
  learning_rate: float = 2e-4,
  critic_steps: int = 1,
  average: float = 0.999,
  critic_width: int = 16,
  flip: bool = False,
) -> base.Learner:
  """Adversarial training with hinge losses.

  Args:
    generator: the generator, whose latents are drawn from N(0, I), and classes
      from those of the real images.
    num_steps: the number of steps T, for the learning rate.
    batch_size: the number of real images of a step of G, which the steps of D
      share equally.
    learning_rate: the learning rate of Adam in the first step.
    critic_steps: the steps of D in each step of G.
    average: the share of the average that stays in a step, in [0, 1).
    critic_width: see the `width` of `discriminator`.
    flip: whether real images are mirrored with a probability of one half.

  Raises:
    ValueError: a number out of range, or a generator that takes something else
      than such latents.
  """
  spec = generator.spec
  if not spec.samples:
    raise ValueError(
      'Expected a generator of samples, such as conditional_dcgan, for '
      f'adversarial training; got {spec.name}; choose another'
    )
  require.whole(num_steps, 'num_steps')
  require.whole(batch_size, 'batch_size')
  require.whole(critic_steps, 'critic_steps')
  require.positive(learning_rate, 'learning_rate', advice='use 2e-4')
  require.fraction(average, 'average', zero=True, one=False)
  if batch_size % critic_steps:
    raise ValueError(
      'Expected a batch_size that the critic_steps share equally; got '
      f'batch_size={batch_size}, critic_steps={critic_steps}; change one of '
      'them'
    )
  classes = spec.num_classes if generator.takes_labels else 0
  critic = discriminators.discriminator(
    spec.image_shape, classes, width=critic_width
  )
  optimizers = [
    optax.adam(optax.linear_schedule(learning_rate, 0.0, steps), b1=0.5)
    for steps in (num_steps, num_steps * critic_steps)
  ]

  def make(key, variables, y, train):
    z = keys.normal(key, (len(y), *spec.latent_shape))
    own = y if generator.takes_labels else None
    return generator.apply(variables, z, own, train=train)

  def init(key):
    first = generator.init(keys.named(key, 'generator'))
    second = critic.init(keys.named(key, 'discriminator'))
    memories = (
      optimizers[0].init(first.params),
      optimizers[1].init(second.params),
    )
    average = jax.tree.map(jnp.copy, first.params)  # so that all may be donated
    return State(first, second, memories, average, jnp.zeros(()))

  def step(key, state, batch):
    state, losses = state, {}
    real = types.Batch(*(_split(leaf, critic_steps) for leaf in batch))
    for i in range(critic_steps):
      part = types.Batch(real.x[i], real.y[i])
      state, losses = criticise(keys.at(key, i), state, part)
    y = real.y[-1]

    def loss(params):
      variables = state.generator._replace(params=params)
      made = make(keys.named(key, 'z'), variables, y, True)
      scores, _ = critic.apply(state.discriminator, made.out, y, False)
      return -jnp.mean(scores), made.stats

    (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(
      state.generator.params
    )
    params, memory = _moved(
      optimizers[0], gradient, state.memories[0], state.generator.params
    )
    share = jnp.minimum(average, (1 + state.count) / (_FIRST + state.count))
    state = state._replace(
      generator=state.generator._replace(params=params, stats=stats),
      memories=(memory, state.memories[1]),
      average=optax.incremental_update(params, state.average, 1 - share),
      count=state.count + 1,
    )
    return state, {**losses, 'generator': value}

  def criticise(key, state, batch):
    x, y = batch
    if flip:
      mirrored = jax.random.bernoulli(keys.named(key, 'flip'), shape=(len(x),))
      x = jnp.where(mirrored[:, None, None, None], x[:, :, ::-1], x)
    false = make(keys.named(key, 'z'), state.generator, y, True).out
    both = jnp.concatenate([x, false]), jnp.concatenate([y, y])

    def loss(params):
      variables = state.discriminator._replace(params=params)
      scores, stats = critic.apply(variables, *both, True)
      right, wrong = jnp.split(scores, 2)
      value = jax.nn.relu(1 - right).mean() + jax.nn.relu(1 + wrong).mean()
      return value, (stats, right.mean(), wrong.mean())

    (value, (stats, right, wrong)), gradient = jax.value_and_grad(
      loss, has_aux=True
    )(state.discriminator.params)
    params, memory = _moved(
      optimizers[1], gradient, state.memories[1], state.discriminator.params
    )
    state = state._replace(
      discriminator=types.Variables(params, stats),
      memories=(state.memories[0], memory),
    )
    scores = {'score of real images': right, 'score of made images': wrong}
    return state, {'discriminator': value, **scores}

  def read(key, state):
    def again(stats, i):
      own = keys.at(key, i)
      variables = types.Variables(state.average, stats)
      classes = max(1, spec.num_classes)
      y = jax.random.randint(keys.named(own, 'y'), (_IMAGES,), 0, classes)
      return make(keys.named(own, 'z'), variables, y, True).stats, None

    stats, _ = jax.lax.scan(again, state.generator.stats, jnp.arange(_PASSES))
    return types.Variables(state.average, stats)

  return base.Learner(init, step, read, batch_size)


def _split(leaf, count):
  return leaf.reshape(count, -1, *leaf.shape[1:])


def _moved(optimizer, gradient, memory, params):
  """Returns the parameters after a step, and the optimiser's memory."""
  updates, memory = optimizer.update(gradient, memory, params)
  return optax.apply_updates(params, updates), memory
