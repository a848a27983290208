"""Fishing: a classifier that leaves one image of a large batch its gradient.

Wen, Geiping, Fowl, Goldblum and Goldstein, Fishing for User Data in Large-Batch
Federated Learning via Gradient Magnification, ICML 2022, arXiv 2202.00580. The
server alters the weights W [d, K] and biases b of the classifier alone. h_i are
the features that it reads of image i, p_i their softmax, n_k the images of
class k, S_k the sum of their features and T that of all.

Labels: W = 0, b = 0. All p are 1/K, and B times the gradients of b_k and W_k
are B/K - n_k and T/K - S_k. The target c is the class of fewest images unless
it is given.

Class fishing: W_c = a 1 for the target and 0 otherwise, b_k = A for all others.
With A far above a sum(h), p_ic = 0 for all images: those of other classes send
no gradient below the classifier, those of class c that of -a sum(h_i).

Feature fishing, where class c has several images: W_c = m e_f, b_c = -m v for
one feature f and a threshold v, the others 0. An image's gradient below the
classifier is (p_ic - [y_i = c]) m dh_if, with p_ic near 1 above the threshold
and near 0 below. From one round to the next only p changes: the difference to a
round with v far above all is m sum_i p_ic dh_if, the gradient of the images
above v whatever their labels, and that of b_c is their number. The threshold
climbs to the mean feature of those above it, which is known too, until one is
left, and by halves where it went too far. f is where the mean of class c is
large and above that of the batch.

What is left is turned into the gradient of one image at a classifier with W_y =
a 1 or e_f and p_y = 0, whose own gradients follow from h, and inverted as such
by `modern` with the authors' settings: cosine, TV of 0.2 with double opponents,
Adam on soft signs. y is c where class c has one image. Else it is guessed: with
u_k = S_k - n_k T/B and d = h - T/B, the class of largest

  |u_k|^2 / n_k - |u_k - d|^2 / (n_k - 1)

whose sum is most probable with the image among its summands; with six images a
class, no better than chance. What the loss adds for a label does not depend on
the image, so that no threshold tells labels; for the same reason the image need
not be of the target class.

Dropout and augmentation are refused: what the rounds draw differs and does not
cancel. At a dropout of 0.1 what feature fishing leaves has a cosine of at most
0.42 with an image's gradient; class fishing, of one round, leaves 0.95, but the
server does not know of which thinned network.

Assumed known: the model, the batch size, and that the client answers on the
same batch in several rounds; the server alters weights. One image is claimed,
so that the columns of claimed images count, not those of the batch.

Differs from the authors: labels are not granted, but read in a first round; in
their released code b_k = A in feature fishing, too, which moves the threshold
by A / m, so that all images of class c pass where features are small; the
difference to the last round makes images of other classes harmless.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.optimisation import modern
from giajax.attacks.parts import compose
from giajax.attacks.parts import labels
from giajax.clients import fedsgd
from giajax.models import inspect

_NEAR = 0.02  # of one image above the threshold


class Plan(NamedTuple):
  """How the server alters the classifier.

  Attributes:
    world: the attacker's picture of the system.
    path: of the classifier.
    target_class: c, None for the class of fewest images.
    a, m, large: multipliers of class, feature and bias.
  """

  world: worlds.World
  path: str
  target_class: int | None
  a: float
  m: float
  large: float


class Known(NamedTuple):
  """What the first two rounds tell."""

  target: types.Array  # [] int
  counts: types.Array  # [K] float32, images a class
  sums: types.Array  # [d, K] of their features
  feature: types.Array  # [] int


def fishing(
  world: worlds.World,
  *,
  target_class: int | None = None,
  feature_rounds: int = 12,
  class_multiplier: float = 0.5,
  feature_multiplier: float = 3e4,
  bias_multiplier: float = 1000.0,
  num_steps: int = 24_000,
  learning_rate: float = 0.1,
  total_variation: float = 0.2,
  features: float = 0.0,
  double_opponents: bool = True,
  warmup_steps: int = 50,
  start: str = 'tiled:4',
  form: str = 'auto',
) -> base.Attack:
  """Isolates the gradient of one image and inverts it.

  Args:
    world: the attacker's picture of the system: a client of one local step
      that does not use its batch's statistics.
    target_class: c; None for the class of fewest images.
    feature_rounds: of the search for a threshold; 0 for class fishing alone.
    class_multiplier: a.
    feature_multiplier: m; the larger, the closer features it tells apart. The
      authors' 300 leaves a few percent to others where two are close.
    bias_multiplier: A; too low where features sum up to more than A / a.
    num_steps: T.
    learning_rate: of Adam, in units of the normalised image; traced.
    total_variation: weight of the prior; traced.
    features: likewise.
    double_opponents: see `modern`.
    warmup_steps: of the learning rate's rise.
    start: see `starts.parse`.
    form: see `match`.

  Raises:
    ValueError: a value out of range, a classifier without bias, or another
      client, such as one with dropout or augmentation.
  """
  _check(world, target_class, feature_rounds)
  multipliers = dict(
    class_multiplier=class_multiplier,
    feature_multiplier=feature_multiplier,
    bias_multiplier=bias_multiplier,
  )
  for name, value in multipliers.items():
    if not 0 < value < math.inf:
      raise ValueError(
        f'Expected a finite {name} above 0; got {name}={value}; leave it out'
      )
  plan = Plan(
    world,
    inspect.head(world.net),
    target_class,
    class_multiplier,
    feature_multiplier,
    bias_multiplier,
  )
  client = fedsgd.fedsgd(world.net, world.task)
  inverted = modern.modern(
    world._replace(client=client, batch_size=1),
    num_steps=num_steps,
    learning_rate=learning_rate,
    total_variation=total_variation,
    features=features,
    double_opponents=double_opponents,
    warmup_steps=warmup_steps,
    start=start,
    form=form,
  )

  def infer(key, obs):
    del key
    bias = _leaves(plan, obs.message.variables.params)[1]
    return jnp.argmin(bias)[None].astype(jnp.int32)

  attack = compose.with_labels(inverted, labels.Rule(infer))

  def read(state, obs, hp):
    found = attack.read(state, obs, hp)
    # No image of the target, no features.
    caught = (_leaves(plan, obs.update.delta)[0] != 0).any()
    return found._replace(valid=found.valid & caught)

  return attack._replace(
    read=read,
    craft=functools.partial(_craft, plan),
    merge=functools.partial(_merge, plan),
    num_rounds=3 + feature_rounds if feature_rounds else 2,
    needs=attack.needs | {'alter_parameters'},
  )


def _craft(plan, key, message, side, history):
  """Returns what the server sends in the round after `history`."""
  del key, side
  kernel, bias = map(jnp.zeros_like, _leaves(plan, message.variables.params))
  if not history:
    return _put(plan, message, kernel, bias)
  if len(history) == 1:
    c, _ = _target(plan, history)
    row = jnp.full(len(kernel), plan.a)
    return _at_class(plan, message, c, row)
  known = _known(plan, history)
  c = known.target
  v = _threshold(plan, known, history) if len(history) > 2 else _beyond(known)
  kernel = kernel.at[known.feature, c].set(plan.m)
  return _put(plan, message, kernel, bias.at[c].set(-plan.m * v))


def _merge(plan, history):
  """Returns the round that a client of one image would have answered."""
  known = _known(plan, history)
  left, h, y, row = _by_class(plan, known, history)
  if len(history) > 2:
    several = known.counts[known.target] > 1.5
    other = _by_feature(plan, known, history)
    left, h, y, row = trees.where(several, other, (left, h, y, row))
  classes = len(known.counts)
  slope = jnp.where(jnp.arange(classes) == y, -1.0, 1 / (classes - 1))
  own = dict(zip(_names(plan), (h[:, None] * slope, slope)))
  message = _at_class(plan, history[-1].message, y, row)
  update = history[-1].update._replace(delta=trees.replaced(left, own))
  return history[-1]._replace(message=message, update=update)


def _by_class(plan, known, history):
  """Returns the mean gradient of class c, its features, label and row."""
  c, gradient = known.target, _gradient(plan, history[1])
  number = jnp.maximum(known.counts[c], 1)
  rate = plan.world.batch_size / number
  left = jax.tree.map(lambda g: rate * g, gradient)
  h = known.sums[:, c] / number
  return left, h, c, jnp.full(len(h), plan.a)


def _by_feature(plan, known, history):
  """Likewise of what is above the last threshold."""
  number, features = _above(plan, known, history[2], history[-1])
  number = jnp.maximum(number, _NEAR)
  h = features / number
  rate = plan.world.batch_size / (plan.m * number)
  left = jax.tree.map(
    lambda none, some: rate * (none - some),
    _gradient(plan, history[2]),
    _gradient(plan, history[-1]),
  )
  row = jnp.zeros(len(h)).at[known.feature].set(1.0)
  return left, h, _member(known, h), row


def _member(known, h):
  """Returns the class whose sum of features most probably has h in it."""
  counts = known.counts
  mean = (known.sums.sum(1) / counts.sum())[:, None]
  apart = known.sums - counts * mean
  without = jnp.square(apart - (h[:, None] - mean)).sum(0)
  gain = jnp.square(apart).sum(0) / jnp.maximum(counts, 1)
  gain -= without / jnp.maximum(counts - 1, 0.01)
  return jnp.argmax(jnp.where(counts > 0.5, gain, -jnp.inf))


def _target(plan, history):
  """Returns the target, and how many images each class has."""
  classes = plan.world.net.spec.num_classes
  counts = plan.world.batch_size / classes - _summed(plan, history[0])[1]
  if plan.target_class is not None:
    return jnp.asarray(plan.target_class), counts
  return jnp.argmin(jnp.where(counts > 0.5, counts, jnp.inf)), counts


def _known(plan, history):
  c, counts = _target(plan, history)
  (probed, _), (fished, _) = (_summed(plan, obs) for obs in history[:2])
  # T / K is what both rounds' gradients of W_c differ by.
  share = probed[:, c] - fished[:, c]
  sums = share[:, None] - probed
  mean = sums[:, c] / jnp.maximum(counts[c], 1)
  overall = share * len(counts) / plan.world.batch_size
  return Known(c, counts, sums, jnp.argmax(2 * mean - overall))


def _mean(known):
  """The target's mean of the feature."""
  total = known.sums[known.feature, known.target]
  return total / jnp.maximum(known.counts[known.target], 1)


def _beyond(known):
  """A threshold above the feature of every image."""
  return 10 + 10 * jnp.abs(known.sums[known.feature]).sum()


def _threshold(plan, known, history):
  """Returns the next threshold, by what the earlier ones let through."""
  v = _mean(known)
  low, high = v - 10 / plan.m, _beyond(known)
  for obs in history[3:]:
    number, features = _above(plan, known, history[2], obs)
    many, few = number > 1 + _NEAR, number < 1 - _NEAR
    low, high = jnp.where(many, v, low), jnp.where(few, v, high)
    mean = features[known.feature] / jnp.maximum(number, _NEAR)
    climbed = jnp.minimum(mean, (v + high) / 2)
    v = jnp.where(many, climbed, jnp.where(few, (low + v) / 2, v))
  return v


def _above(plan, known, none, some):
  """The number of images above a round's threshold, and their features."""
  kernel, bias = (
    u - v for u, v in zip(_summed(plan, some), _summed(plan, none))
  )
  return bias[known.target], kernel[:, known.target]


def _gradient(plan, obs):
  return plan.world.client.as_gradient(obs.update.delta)


def _summed(plan, obs):
  """The gradients of the classifier, summed over the batch."""
  size = plan.world.batch_size
  return tuple(size * leaf for leaf in _leaves(plan, _gradient(plan, obs)))


def _names(plan):
  return f'{plan.path}.kernel', f'{plan.path}.bias'


def _leaves(plan, tree):
  named = trees.named_leaves(tree)
  return tuple(named[name] for name in _names(plan))


def _at_class(plan, message, c, row):
  """Returns a message whose classifier leaves a class probability 0."""
  kernel, bias = _leaves(plan, message.variables.params)
  kernel = jnp.zeros_like(kernel).at[:, c].set(row)
  return _put(
    plan, message, kernel, jnp.full_like(bias, plan.large).at[c].set(0.0)
  )


def _put(plan, message, kernel, bias):
  return base.put(message, dict(zip(_names(plan), (kernel, bias))))


def _check(world, target_class, feature_rounds):
  classes, client = world.net.spec.num_classes, world.client
  if target_class is not None and not 0 <= target_class < classes:
    raise ValueError(
      f'Expected a target_class of 0 to {classes - 1}; got target_class='
      f'{target_class}; leave it out for the class of fewest images'
    )
  if feature_rounds < 0:
    raise ValueError(
      f'Expected feature_rounds >= 0; got feature_rounds={feature_rounds}; use '
      '0 for class fishing alone'
    )
  if not inspect.has_bias(world.net, inspect.head(world.net)):
    raise ValueError(
      'Expected a classifier with bias for fishing; got '
      f'{world.net.spec.name}; choose another network'
    )
  if client.local_steps != 1 or client.clients != 1:
    raise ValueError(
      'Expected one client of one local step for fishing; got '
      f'local_steps={client.local_steps}, clients={client.clients}; use fedsgd'
    )
  if client.train_mode and inspect.has_batch_norm(world.net):
    raise ValueError(
      'Expected a client in inference mode for fishing; got train_mode=True, '
      'where BatchNorm mixes the images of a batch; use another network'
    )
  if client.augment or inspect.draws(world.net, train=client.train_mode):
    raise ValueError(
      'Expected a client that does the same in every round for fishing; got '
      f'augment={client.augment} and {world.net.spec.name}, which may draw '
      'numbers as dropout does; use another client or network'
    )
