"""Trap weights: a first linear layer whose units few images activate.

Boenisch, Dziedzic, Schuster, Shamsabadi, Shumailov and Papernot, When the
Curious Abandon Honesty: Federated Learning Is Not Private, EuroS&P 2023, arXiv
2112.02918. The server gives half of each row's weights, at random places,
values -|n| with n ~ N(0, sigma^2), and the other half the values gamma |n| of
the same draws, gamma < 1; the biases are 0. For pixels x in [0, 1] a unit i
then computes

  (1)  z_i = gamma P_i - N_i,  P_i, N_i > 0, the parts of the two halves

and rarely exceeds 0. Where one image alone activates it, that image is

  (2)  x = dL/dW_i / dL/db_i

Convolutions in front hand the image on (`pixel_relay`).

Assumed known: the model and the batch size B; the server alters weights. gamma
is given, or fitted to public images so that `images_per_unit` images of a batch
activate a unit on average: it is the quantile of

  (3)  N_i / P_i

of order `images_per_unit` / B.

There is one candidate per unit. The attacker itself tells which candidates are
single images: it runs the network on each candidate with each label, and
compares the resulting gradient of the bias with the observed one. No mixture of
images agrees. The effect of a recovered image on all units is known, too, and
is subtracted; units that it shared with one other image then show the other
one, and so on. The B candidates that agree best are returned, with the labels
for which they agree; the remaining mixtures fill the slots that no image
claims.

`strength` mixes the rows with those of the agreed network, which have the same
scale: a client finds less to be suspicious of. gamma is fitted for the mixture,
so that it finds as many images of a fresh MLP (`:strength` of
`trap_weights_mlp_cifar10`) and fewer of a trained one. A batch of four needs no
trap: with strength=1e-6 and gamma=0.9, which leaves the weights as agreed, this
attack recovers four images of four, and none of 64.

Dropout in front of the layer changes what it reads, and is refused. Behind it
the ratios stay exact, but gradients no longer agree with those of a network
that drops nothing: of eight CIFAR-10 images, five come back at a rate of 0.5
and eight without dropout; of 64 images, 32 come back and 55 without.

Differs from the authors, who read one image per unit once (peelings=1, for
which one image per unit is best), do not describe how to tell it from a
mixture, and use a constant sigma: here it is the standard deviation of the
agreed rows.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from giajax import keys
from giajax import require
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import bias_gradients
from giajax.attacks.parts import pixel_relay

_EXACT = jax.lax.Precision.HIGHEST
_TINY = 1e-30
_ROUNDING = 1e-4  # what remains of a unit's gradient that is fully explained
_AGREES = 1e-3  # relative error of the gradient of one image
_REPEATED = 1e-2  # root mean square difference of two views of one image


class TrapPlan(NamedTuple):
  """How the server alters the layer, and how it reads it.

  Attributes:
    world: the attacker's picture of the system.
    relay: what the layer reads.
    gamma: the gamma of (1), or None to fit it.
    images_per_unit: the images of a batch that activate a unit on average, to
      fit gamma for.
    strength: the strength of the manipulation.
    peelings: the number of times that units are read.
  """

  world: worlds.World
  relay: pixel_relay.PixelRelay
  gamma: float | None
  images_per_unit: float
  strength: float
  peelings: int


def trap_weights(
  world: worlds.World,
  *,
  gamma: float | None = None,
  images_per_unit: float | None = None,
  strength: float = 1.0,
  peelings: int = 8,
) -> base.Attack:
  """Images as ratios of the gradients of units that few images activate.

  Args:
    world: the attacker's picture of the system: a network with a linear layer
      and a ReLU after nothing but convolutions that have room for the image.
    gamma: the ratio of the positive weights to the negative ones, in (0, 1];
      None to fit it to 'proxy_data', which is then needed.
    images_per_unit: the images of a batch that activate a unit on average, to
      fit gamma for; above 0 and at most the batch size. If None, three, or all
      images of a smaller batch.
    strength: the strength of the manipulation, in (0, 1].
    peelings: the number of times that units are read, each time without the
      images recovered before.

  Raises:
    ValueError: a value out of range, another task, a network without such a
      layer, or a client of several local steps or with dropout in front of it.
  """
  net, b, instead = world.net, world.batch_size, 'use robbing_the_fed'
  images_per_unit = min(3.0, b) if images_per_unit is None else images_per_unit
  if gamma is not None:
    require.fraction(gamma, 'gamma', advice='leave it out to fit it')
  elif not 0 < images_per_unit <= b:  # only a fit reads it
    raise ValueError(
      'Expected images_per_unit above 0 and at most the batch size; got '
      f'images_per_unit={images_per_unit}, batch_size={b}; set it within'
    )
  require.fraction(strength, 'strength', advice='use 1 for the whole')
  require.whole(peelings, 'peelings', advice='use 1 to read units once')
  require.exclusive_classes(world, 'trap_weights', advice=instead)
  relay = pixel_relay.pixel_relay(net, 'trap_weights')
  if not relay.exact:
    raise ValueError(
      'Expected convolutions that hand on every pixel for trap_weights; got '
      f'{net.spec.name}, which has too few channels or pools; use mlp or mkor'
    )
  require.one_step(world.client, 'trap_weights', advice=instead)
  require.no_random_layers(
    net,
    'trap_weights',
    train=world.client.train_mode,
    tap=f'{relay.layer}.input',
    advice=instead,
  )
  _require_relu(net, relay.layer)

  plan = TrapPlan(world, relay, gamma, images_per_unit, strength, peelings)
  needs = {'model', 'batch_size', 'alter_parameters'}
  return base.closed_form(
    functools.partial(_read, plan),
    needs=needs if gamma is not None else needs | {'proxy_data'},
    craft=functools.partial(_craft, plan),
  )


# What the server sends.


def _craft(plan, key, message, side, history):
  """Returns a message with the trap in its first linear layer."""
  del history
  relay, strength = plan.relay, plan.strength
  kernel, bias = base.kernel_and_bias(message.variables.params, relay.layer)
  # In units of pixels, whatever the normalisation.
  own = kernel / relay.std[:, None]
  own_bias = bias - (own * relay.mean[:, None]).sum(0)
  pixels = jnp.asarray(relay.sign > 0, jnp.float32)
  negative, positive = _halves(key, pixels, kernel.shape[1])
  scale = jnp.std(own)
  negative, positive = (scale * part for part in (negative, positive))
  gamma = plan.gamma
  if gamma is None:
    gamma = _fitted(plan, side, negative, positive, own, own_bias)
  # (1), mixed with the agreed rows.
  trap = gamma * positive - negative
  mixed = strength * trap + (1 - strength) * own
  mixed_bias = (1 - strength) * own_bias
  leaves = {
    **relay.leaves,
    f'{relay.layer}.kernel': mixed * relay.std[:, None],
    f'{relay.layer}.bias': mixed_bias + (mixed * relay.mean[:, None]).sum(0),
  }
  return base.put(message, leaves)


def _halves(key, pixels, units):
  """Returns |n| at the negative and at the positive weights, [D, k] each.

  Args:
    key: consumed.
    pixels: 1 for features that hold a pixel, else 0, [D].
    units: the number of units k.
  """

  def row(key):
    order = jnp.argsort(jax.random.uniform(key, pixels.shape) - pixels)
    half = len(pixels) // 2
    draws = jnp.abs(keys.normal(keys.named(key, 'draws'), (half,)))
    # Unused features come last, and meet zeros.
    count = jnp.sum(pixels).astype(int) // 2
    draws = jnp.where(jnp.arange(half) < count, draws, 0.0)
    places = jnp.zeros(len(pixels))
    negative = places.at[order[:half]].set(draws)
    shifted = jnp.roll(order, -count)[:half]
    return negative, places.at[shifted].set(draws)

  negative, positive = jax.vmap(row)(jax.random.split(key, units))
  return negative.T, positive.T


def _fitted(plan, side, negative, positive, own, own_bias):
  """Returns gamma, the quantile of (3) over public images and units."""
  x = plan.relay.features(side['proxy_data'])
  x = x * plan.relay.std + plan.relay.mean
  # The agreed rows' part of the mixture belongs to what has to be outweighed.
  rest = (1 - plan.strength) / plan.strength
  against = x @ negative - rest * (x @ own + own_bias)
  ratios = against / jnp.maximum(x @ positive, _TINY)
  return jnp.quantile(ratios, plan.images_per_unit / plan.world.batch_size)


# What the server reads.


def _read(plan, obs):
  """Returns the B candidates that explain most, after all peelings."""
  world = plan.world
  gradient = world.client.as_gradient(obs.update.delta)
  kernel, bias = base.kernel_and_bias(gradient, plan.relay.layer)
  floor = _ROUNDING * jnp.abs(bias)
  gradients = bias_gradients.bias_gradients(
    world, plan.relay.layer, obs.message.variables
  )

  def peel(carry, last):
    kernel, bias, best = carry
    x, y, errors, slopes = _explained(plan, gradients, kernel, bias, floor)
    agrees = errors < _AGREES
    # What is explained is taken off all units.
    share = jnp.where(agrees[:, None], slopes, 0.0)
    features = plan.relay.features(x)
    kernel -= jnp.dot(features.T, share, precision=_EXACT)
    # Mixtures are what is left in the end.
    errors = jnp.where(agrees | last, errors, jnp.inf)
    return (kernel, bias - share.sum(0), _best(best, (x, y, errors))), None

  none = (
    jnp.zeros((world.batch_size, *world.net.spec.image_shape)),
    jnp.zeros(world.batch_size, jnp.int32),
    jnp.full(world.batch_size, jnp.inf),
  )
  rounds = jnp.arange(plan.peelings) == plan.peelings - 1
  (*_, (x, y, errors)), _ = jax.lax.scan(peel, (kernel, bias, none), rounds)
  valid = jnp.isfinite(errors)
  score = jnp.where(valid, jnp.minimum(errors, 1.0), 1.0).mean()
  return types.Reconstruction(types.Batch(x, y), valid, score)


def _explained(plan, gradients, kernel, bias, floor):
  """Returns each unit's candidate, and how well it explains the unit.

  Args:
    plan: the plan of the attack.
    gradients: see `bias_gradients`.
    kernel: the remaining gradient of the kernel, [D, k].
    bias: the remaining gradient of the bias, [k].
    floor: the values below which nothing is left, [k].

  Returns:
    The images x [k, H, W, C], their labels y [k], their errors [k], infinite
    for what repeats another or is no image, and what they do to all biases,
    [k, k].
  """
  relay = plan.relay
  reached = jnp.abs(bias) > floor
  ratios = (kernel / jnp.where(reached, bias, 1.0)).T  # (2)
  images = relay.images(ratios * relay.std + relay.mean)
  x = jnp.clip(images, 0.0, 1.0)
  y, errors, slopes = _best_labels(plan.world, gradients, x, bias)
  errors = errors + jnp.abs(images - x).max((1, 2, 3))
  errors = jnp.where(reached, errors, jnp.inf)
  errors = jnp.where(_repeats(x, errors), jnp.inf, errors)
  return x, y, errors, slopes


def _best_labels(world, gradients, x, bias):
  """Returns labels y [k] that explain [k] biases best, errors and gradients.

  The error of a unit is the relative difference between the gradient that its
  candidate makes at that unit and the observed one; the gradients [k, k] are
  those at all units.
  """

  def slopes(y):
    return jax.vmap(gradients)(x, y) / world.batch_size

  def error(label):
    alone = jnp.diagonal(slopes(jnp.full(len(x), label)))
    return jnp.abs(alone - bias) / jnp.maximum(jnp.abs(bias), _TINY)

  # One label after the other: the gradients are [k, k].
  errors = jax.lax.map(error, jnp.arange(world.net.spec.num_classes))
  y = jnp.argmin(errors, 0).astype(jnp.int32)
  return y, errors.min(0), slopes(y)


def _best(best, new):
  """Returns the candidates (x, y, errors) of least error, as many as before."""
  joined = [jnp.concatenate(pair) for pair in zip(best, new)]
  order = jnp.argsort(joined[-1])[: len(best[-1])]
  return tuple(a[order] for a in joined)


def _repeats(x, errors):
  """Returns which candidates show the same as one of lower error, [k] bool."""
  flat = x.reshape(len(x), -1)
  squares = jnp.square(flat).sum(1)
  apart = (
    squares[:, None] + squares - 2 * jnp.dot(flat, flat.T, precision=_EXACT)
  )
  near = apart < flat.shape[1] * _REPEATED**2
  rank = jnp.argsort(jnp.argsort(errors))
  return (near & (rank < rank[:, None])).any(1)


def _require_relu(net, layer):
  """Checks whether a unit below 0 has no gradient."""
  variables = net.init(jax.random.key(0))
  kernel, bias = base.kernel_and_bias(variables.params, layer)

  def total(bias):
    changed = {f'{layer}.kernel': 0 * kernel, f'{layer}.bias': bias}
    x = jnp.full((1, *net.spec.image_shape), 0.5)
    params = trees.replaced(variables.params, changed)
    out = net.apply(variables._replace(params=params), x).out
    return jnp.square(out).sum()

  if jnp.abs(jax.grad(total)(jnp.full_like(bias, -1.0))).max() > 0:
    raise ValueError(
      'Expected a ReLU after the first linear layer for trap_weights; got '
      f'{net.spec.name}, whose {layer!r} is followed by something else; use '
      "activation='relu'"
    )
