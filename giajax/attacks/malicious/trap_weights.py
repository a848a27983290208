"""Trap weights: a first linear layer whose units few images activate.

Boenisch, Dziedzic, Schuster, Shamsabadi, Shumailov and Papernot, When the
Curious Abandon Honesty: Federated Learning Is Not Private, EuroS&P 2023, arXiv
2112.02918. The server gives half of each row's weights, at random places,
values -|n| with n ~ N(0, sigma^2), and the other half the values gamma |n| of
the same draws, gamma < 1; the biases are 0. For pixels x in [0, 1] a unit i
then computes

  z_i = gamma P_i - N_i,  P_i, N_i > 0, the parts of the two halves

and rarely exceeds 0. Where one image alone activates it, that image is
dL/dW_i / dL/db_i. Convolutions in front hand the image on (`passing`).

Assumed known: the model and the batch size B; the server alters weights. gamma
is given, or fitted to public images so that a unit meets so many of a batch on
average: it is the quantile of N_i / P_i of that order over B.

Of the candidates, one a unit, the attacker tells those that are one image by
its own means: it runs the network on each with each label, and compares the
gradient of the bias that follows with the one observed. No mixture of images
agrees. What an image that was found does to all units is known, too, and is
taken off; units that it shared with one other image now show the other, and so
on. The B candidates that agree best are returned, with the labels for which
they do; mixtures that are left fill the slots that no image claims.

`strength` mixes the rows with those of the agreed network, which have the same
scale: a client finds less to be suspicious of. gamma is fitted for the mixture,
so that it finds as many images of a fresh MLP (`:strength` of
`trap_weights_mlp_cifar10`) and fewer of a trained one. A batch of four needs no
trap: with strength=1e-6 and gamma=0.9, which leaves the weights as agreed, this
reader finds four images of four, and none of 64.

Dropout in front of the layer changes what it reads, and is refused. Behind it
the ratios stay exact, but gradients no longer agree with those of a network
that drops nothing: of eight CIFAR-10 images five come back at a rate of 0.5 for
eight without, of 64 images 32 for 55.

Differs from the authors, who read one image a unit once (peelings=1, and then
one image a unit is best) and are not said to tell it from a mixture, and whose
sigma is a constant: here it is the standard deviation of the agreed rows.
"""

import jax
import jax.numpy as jnp

from giajax import keys
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import pixel_relay
from giajax.models import inspect

_EXACT = jax.lax.Precision.HIGHEST
_TINY = 1e-30
_ROUNDING = 1e-4  # what is left of a unit's gradient that was explained
_AGREES = 1e-3  # relative error of the gradient of one image
_REPEATED = 1e-2  # root mean square difference of two views of one image


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
      and a ReLU behind nothing but convolutions that have room for the image.
    gamma: what the positive weights are of the negative ones, in (0, 1]; None
      to fit it to 'proxy_data', which is then needed.
    images_per_unit: of a batch that activate a unit on average, to fit gamma
      for; above 0, at most the batch size. Three if None, or all of fewer.
    strength: of the manipulation, in (0, 1].
    peelings: how often units are read, each time without what was found.

  Raises:
    ValueError: a value out of range, a network without such a layer, or a
      client of several local steps or with dropout in front of it.
  """
  for name, value in (('gamma', gamma), ('strength', strength)):
    if value is not None and not 0 < value <= 1:
      raise ValueError(
        f'Expected {name} in (0, 1]; got {name}={value}; leave it out'
      )
  if images_per_unit is None:
    images_per_unit = min(3.0, world.batch_size)
  # Only a fit reads it.
  if gamma is None and not 0 < images_per_unit <= world.batch_size:
    raise ValueError(
      'Expected images_per_unit above 0 and at most the batch size; got '
      f'images_per_unit={images_per_unit}, batch_size={world.batch_size}; '
      'set it within'
    )
  if peelings < 1:
    raise ValueError(
      f'Expected peelings >= 1; got peelings={peelings}; leave it out'
    )
  net = world.net
  found = pixel_relay.passing(net, 'trap_weights')
  if not found.exact:
    raise ValueError(
      'Expected convolutions that hand on every pixel for trap_weights; got '
      f'{net.spec.name}, which has too few channels or pools; use mlp or mkor'
    )
  if world.client.local_steps != 1:
    raise ValueError(
      'Expected a client of one local step for trap_weights; got local_steps='
      f'{world.client.local_steps}; use robbing_the_fed'
    )
  tap, train = f'{found.layer}.input', world.client.train_mode
  if inspect.draws(net, tap, train=train):
    raise ValueError(
      f'Expected no random layers in front of {found.layer!r} for trap_weights;'
      f' got {net.spec.name}, which draws numbers there as dropout does; use '
      'robbing_the_fed'
    )
  _require_relu(net, found.layer)
  names = [f'{found.layer}.{leaf}' for leaf in ('kernel', 'bias')]
  used = jnp.asarray(found.sign > 0, jnp.float32)[:, None]

  def craft(key, message, side, history):
    del history
    held = trees.named_leaves(message.variables.params)
    kernel, bias = (held[name] for name in names)
    # In units of pixels, whatever the normalisation.
    own = kernel / found.std[:, None]
    own_bias = bias - (own * found.mean[:, None]).sum(0)
    negative, positive = _halves(key, used, kernel.shape[1])
    scale = jnp.std(own)
    negative, positive = (scale * part for part in (negative, positive))
    rest = (1 - strength) / strength
    if gamma is None:
      x = found.features(side['proxy_data']) * found.std + found.mean
      wanted = x @ negative - rest * (x @ own + own_bias)
      ratios = wanted / jnp.maximum(x @ positive, _TINY)
      level = jnp.quantile(ratios, images_per_unit / world.batch_size)
    else:
      level = gamma
    trap = level * positive - negative
    mixed = strength * trap + (1 - strength) * own
    mixed_bias = (1 - strength) * own_bias
    sent = {
      **found.leaves,
      names[0]: mixed * found.std[:, None],
      names[1]: mixed_bias + (mixed * found.mean[:, None]).sum(0),
    }
    return base.put(message, sent)

  def read(obs):
    gradient = trees.named_leaves(world.client.as_gradient(obs.update.delta))
    kernel, bias = (gradient[name] for name in names)
    floor = _ROUNDING * jnp.abs(bias)
    explain = _explainer(world, found.layer, obs.message)

    def peel(carry, last):
      kernel, bias, best = carry
      reached = jnp.abs(bias) > floor
      ratios = (kernel / jnp.where(reached, bias, 1.0)).T
      images = found.images(ratios * found.std + found.mean)
      x = jnp.clip(images, 0.0, 1.0)
      errors, y, slopes = explain(x, bias)
      errors = errors + jnp.abs(images - x).max((1, 2, 3))
      errors = jnp.where(reached, errors, jnp.inf)
      errors = jnp.where(_repeats(x, errors), jnp.inf, errors)
      agrees = errors < _AGREES
      share = jnp.where(agrees[:, None], slopes, 0.0)
      kernel -= jnp.dot(found.features(x).T, share, precision=_EXACT)
      # Mixtures are what is left in the end.
      errors = jnp.where(agrees | last, errors, jnp.inf)
      best = _best(best, (x, y, errors))
      return (kernel, bias - share.sum(0), best), None

    empty = (
      jnp.zeros((world.batch_size, *net.spec.image_shape)),
      jnp.zeros(world.batch_size, jnp.int32),
      jnp.full(world.batch_size, jnp.inf),
    )
    rounds = jnp.arange(peelings) == peelings - 1
    carry, _ = jax.lax.scan(peel, (kernel, bias, empty), rounds)
    x, y, errors = carry[-1]
    valid = jnp.isfinite(errors)
    score = jnp.where(valid, jnp.minimum(errors, 1.0), 1.0).mean()
    return types.Reconstruction(types.Batch(x, y), valid, score)

  needs = {'model', 'batch_size', 'alter_parameters'}
  if gamma is None:
    needs.add('proxy_data')
  return base.closed_form(read, needs=needs, craft=craft)


def _halves(key, used, units):
  """Returns |n| at the negative and at the positive weights, [D, k] each."""

  def row(key):
    order = jnp.argsort(jax.random.uniform(key, used.shape[:1]) - used[:, 0])
    half = used.shape[0] // 2
    draws = jnp.abs(keys.normal(keys.named(key, 'draws'), (half,)))
    # Unused features come last, and meet zeros.
    count = jnp.sum(used).astype(int) // 2
    draws = jnp.where(jnp.arange(half) < count, draws, 0.0)
    places = jnp.zeros(used.shape[0])
    negative = places.at[order[:half]].set(draws)
    shifted = jnp.roll(order, -count)[:half]
    return negative, places.at[shifted].set(draws)

  negative, positive = jax.vmap(row)(jax.random.split(key, units))
  return negative.T, positive.T


def _explainer(world, layer, message):
  """Returns what tells how well candidates explain gradients of the bias.

  Args:
    world: of the attack.
    layer: path of the trapped layer.
    message: what the client received.

  Returns:
    `(x [k, H, W, C], bias [k]) -> (errors [k], y [k], slopes [k, k])`: the
    relative error of the gradient that the candidate of each unit makes there
    with the best label, that label, and what it makes at all units.
  """
  variables, net = message.variables, world.net
  shapes = jax.eval_shape(
    lambda: net.probe(variables, jnp.zeros((1, *net.spec.image_shape)), None)[2]
  )
  zeros = {path: jnp.zeros(s.shape) for path, s in shapes.items()}

  def loss(offset, x, y):
    output, *_ = net.probe(variables, x[None], {**zeros, layer: offset})
    return world.task.loss(output.out, y[None])[0]

  def slopes(x, y):
    each = jax.vmap(jax.grad(loss), (None, 0, 0))(zeros[layer], x, y)
    return each[:, 0] / world.batch_size

  def explain(x, bias):
    def error(y):
      alone = jnp.diagonal(slopes(x, jnp.full(len(x), y)))
      return jnp.abs(alone - bias) / jnp.maximum(jnp.abs(bias), _TINY)

    errors = jax.lax.map(error, jnp.arange(net.spec.num_classes))
    y = jnp.argmin(errors, 0).astype(jnp.int32)
    return errors.min(0), y, slopes(x, y)

  return explain


def _best(known, new):
  """Returns the candidates (x, y, errors) of least error, as many as known."""
  joined = [jnp.concatenate(pair) for pair in zip(known, new)]
  order = jnp.argsort(joined[-1])[: len(known[-1])]
  return tuple(a[order] for a in joined)


def _repeats(x, errors):
  """Says which candidates show what one of lower error shows, [k] bool."""
  flat = x.reshape(len(x), -1)
  squares = jnp.square(flat).sum(1)
  apart = (
    squares[:, None] + squares - 2 * jnp.dot(flat, flat.T, precision=_EXACT)
  )
  near = apart < flat.shape[1] * _REPEATED**2
  rank = jnp.argsort(jnp.argsort(errors))
  return (near & (rank < rank[:, None])).any(1)


def _require_relu(net, layer):
  """Looks whether a unit below 0 has no gradient."""
  variables = net.init(jax.random.key(0))
  held = trees.named_leaves(variables.params)
  kernel, bias = (held[f'{layer}.{leaf}'] for leaf in ('kernel', 'bias'))

  def total(bias):
    leaves = {f'{layer}.kernel': 0 * kernel, f'{layer}.bias': bias}
    x = jnp.full((1, *net.spec.image_shape), 0.5)
    params = trees.replaced(variables.params, leaves)
    out = net.apply(variables._replace(params=params), x).out
    return jnp.square(out).sum()

  if jnp.abs(jax.grad(total)(jnp.full_like(bias, -1.0))).max() > 0:
    raise ValueError(
      'Expected a ReLU behind the first linear layer for trap_weights; got '
      f'{net.spec.name}, whose {layer!r} is followed by something else; use '
      "activation='relu'"
    )
