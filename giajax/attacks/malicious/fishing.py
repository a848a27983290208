"""Fishing: a classifier that gives a gradient to one image of a large batch.

Wen, Geiping, Fowl, Goldblum and Goldstein, Fishing for User Data in Large-Batch
Federated Learning via Gradient Magnification, ICML 2022, arXiv 2202.00580. The
server alters the weights W [d, K] and biases b of the classifier alone. h_i are
the features of image i that it reads, p_i the softmax of its logits, n_k the
number of images of class k, S_k the sum of their features and T the sum of all
features.

Labels, in the first round: W = 0, b = 0. All p are 1/K, and B times the
gradients are

  (1)  dL/db_k = B/K - n_k
  (2)  dL/dW_k = T/K - S_k

The target c is the class of fewest images unless it is given.

Class fishing, in the second round:

  (3)  W_c = a 1 for the target and 0 otherwise, b_k = A for all others

With A far above a sum(h), p_ic = 0 for all images: images of other classes send
no gradient below the classifier, images of class c send that of -a sum(h_i),
and B times the gradient of W_c is -S_c.

Feature fishing, in the rounds after these, where class c has several images:

  (4)  W_c = m e_f, b_c = -m v for one feature f and a threshold v, else 0

An image's gradient below the classifier is (p_ic - [y_i = c]) m dh_if, with
p_ic near 1 above the threshold and near 0 below. From one round to the next
only p changes: the difference to a round with v far above all is

  (5)  m sum_i p_ic dh_if below the classifier
  (6)  sum_i p_ic and sum_i p_ic h_i at b_c and W_c

the gradient of the images above v whatever their labels, their number and the
sum of their features. The threshold climbs to the mean feature of those above
it until one is left, and by halves where it went too far (`search`). f is a
feature whose mean over class c is large and above its mean over the batch.

What is left is turned into the gradient of one image at a classifier with W_y =
a 1 or e_f and p_y = 0, whose own gradients follow from h, and inverted as such
by `modern` with the authors' settings: cosine, TV of 0.2 with double opponents,
Adam on soft signs. y is c if class c has one image. Otherwise it is guessed:
with u_k = S_k - n_k T/B and d = h - T/B, the class of largest

  (7)  |u_k|^2 / n_k - |u_k - d|^2 / (n_k - 1)

whose sum is most probable with the image among its summands; with six images
per class, this is no better than chance. What the loss adds for a label does
not depend on the image, so no threshold separates labels; for the same reason
the image may belong to any class.

Dropout and augmentation are refused: the rounds draw different numbers, whose
effects do not cancel. At a dropout of 0.1, the gradient that feature fishing
leaves has a cosine of at most 0.42 with an image's gradient; class fishing,
which takes one round, leaves 0.95, but the server does not know which thinned
network the gradient belongs to.

Assumed known: the model, the batch size, and that the client answers on the
same batch in several rounds; the server alters weights. Only one image is
claimed, so the columns of claimed images are the ones to read, not those of the
batch.

Differs from the authors: labels are not granted, but read in a first round; in
their released code b_k = A in feature fishing, too, which moves the threshold
by A / m, so that all images of class c pass where features are small; the
difference to the last round makes images of other classes harmless.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from giajax import require
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.optimisation import modern
from giajax.attacks.parts import compose
from giajax.attacks.parts import labels
from giajax.attacks.parts import search
from giajax.clients import fedsgd
from giajax.models import inspect


class ClassifierPlan(NamedTuple):
  """How the server alters the classifier.

  Attributes:
    world: the attacker's picture of the system.
    path: the path of the classifier.
    target_class: c, or None for the class of fewest images.
    a, m, large: multipliers of class, feature and bias.
  """

  world: worlds.World
  path: str
  target_class: int | None
  a: float
  m: float
  large: float


class Census(NamedTuple):
  """What the first two rounds reveal."""

  target: types.Array  # [] int
  counts: types.Array  # [K] float32, images per class
  sums: types.Array  # [d, K] of their features
  feature: types.Array  # [] int


class Catch(NamedTuple):
  """What a round isolates, as the gradient of one image."""

  gradient: types.Tree  # below the classifier
  features: types.Array  # [d]
  label: types.Array  # [] int
  row: types.Array  # [d], of its class in the classifier


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
    feature_rounds: the rounds of the search for a threshold; 0 for class
      fishing alone.
    class_multiplier: the multiplier a.
    feature_multiplier: the multiplier m; the larger it is, the closer features
      it tells apart. The authors' 300 leaves a few percent to other images if
      two are close.
    bias_multiplier: the multiplier A; it is too low if features sum up to more
      than A / a.
    num_steps: the number of steps T.
    learning_rate: the learning rate of Adam, in units of the normalised image;
      traced.
    total_variation: the weight of the prior; traced.
    features: the weight of the prior; traced.
    double_opponents: see `modern`.
    warmup_steps: the steps over which the learning rate rises.
    start: see `starts.parse`.
    form: see `match`.

  Raises:
    ValueError: a value out of range, another task, a classifier without bias,
      or another client, such as one with dropout or augmentation.
  """
  if target_class is not None:
    require.whole(
      target_class,
      'target_class',
      least=0,
      most=world.net.spec.num_classes - 1,
      advice='leave it out for the class of fewest images',
    )
  require.whole(
    feature_rounds,
    'feature_rounds',
    least=0,
    advice='use 0 for class fishing alone',
  )
  require.positive(class_multiplier, 'class_multiplier')
  require.positive(feature_multiplier, 'feature_multiplier')
  require.positive(bias_multiplier, 'bias_multiplier')
  _require_client(world)

  plan = ClassifierPlan(
    world,
    inspect.classifier(world.net),
    target_class,
    class_multiplier,
    feature_multiplier,
    bias_multiplier,
  )
  one_image = world._replace(
    client=fedsgd.fedsgd(world.net, world.task), batch_size=1
  )
  inversion = modern.modern(
    one_image,
    num_steps=num_steps,
    learning_rate=learning_rate,
    total_variation=total_variation,
    features=features,
    double_opponents=double_opponents,
    warmup_steps=warmup_steps,
    start=start,
    form=form,
  )
  rule = labels.Rule(functools.partial(_label, plan))
  attack = compose.with_labels(inversion, rule)
  return attack._replace(
    read=functools.partial(_read, plan, attack),
    craft=functools.partial(_craft, plan),
    merge=functools.partial(_merge, plan),
    num_rounds=3 + feature_rounds if feature_rounds else 2,
    needs=attack.needs | {'alter_parameters'},
  )


def _require_client(world: worlds.World) -> None:
  """Requires a client whose rounds differ only by the classifier."""
  net, client = world.net, world.client
  require.exclusive_classes(world, 'fishing')
  require.classifier_kernel(net, 'fishing')
  require.classifier_bias(net, 'fishing')
  require.one_step(client, 'fishing')
  require.one_client(client, 'fishing')
  require.no_batch_statistics(client, 'fishing')
  require.no_random_layers(net, 'fishing', train=client.train_mode)
  if client.augment:
    raise ValueError(
      'Expected a client that does the same in every round for fishing; got '
      'augment=True; use another client'
    )


# What the server sends.


def _craft(plan, key, message, side, history):
  """Returns what the server sends in the round after `history`."""
  del key, side
  kernel, bias = map(
    jnp.zeros_like, _classifier(plan, message.variables.params)
  )
  if not history:
    return _put(plan, message, kernel, bias)
  if len(history) == 1:  # (3)
    c, _ = _target(plan, history)
    return _at_class(plan, message, c, jnp.full(len(kernel), plan.a))
  census = _census(plan, history)
  c, v = census.target, _beyond(census)
  if len(history) > 2:
    v = _threshold(plan, census, history)
  kernel = kernel.at[census.feature, c].set(plan.m)  # (4)
  return _put(plan, message, kernel, bias.at[c].set(-plan.m * v))


def _beyond(census):
  """A threshold above the feature of every image."""
  return 10 + 10 * jnp.abs(census.sums[census.feature]).sum()


def _threshold(plan, census, history):
  """Returns the next threshold, by what the earlier ones let through."""
  c, f = census.target, census.feature
  start = census.sums[f, c] / jnp.maximum(census.counts[c], 1)

  def answer(obs):
    count, features = _above(plan, census, history[2], obs)
    return count, features[f] / jnp.maximum(count, search.NEAR)

  return search.threshold(
    map(answer, history[3:]),
    start=start,
    low=start - 10 / plan.m,
    high=_beyond(census),
  )


# What the server reads from the rounds.


def _target(plan, history):
  """Returns the target, and how many images each class has, by (1)."""
  classes = plan.world.net.spec.num_classes
  counts = plan.world.batch_size / classes - _summed(plan, history[0])[1]
  if plan.target_class is not None:
    return jnp.asarray(plan.target_class), counts
  return jnp.argmin(jnp.where(counts > 0.5, counts, jnp.inf)), counts


def _census(plan, history):
  """Returns what the first two rounds reveal, by (1) and (2)."""
  c, counts = _target(plan, history)
  (first, _), (second, _) = (_summed(plan, obs) for obs in history[:2])
  # T / K is what both rounds' gradients of W_c differ by.
  share = first[:, c] - second[:, c]
  sums = share[:, None] - first
  mean = sums[:, c] / jnp.maximum(counts[c], 1)
  overall = share * len(counts) / plan.world.batch_size
  return Census(c, counts, sums, jnp.argmax(2 * mean - overall))


def _above(plan, census, none, some):
  """Returns the number of images above a round's threshold and their sum (6).

  Args:
    plan: the plan of the attack.
    census: the census of the first two rounds.
    none: the round whose threshold is above all images.
    some: the round whose images are counted.
  """
  kernel, bias = (
    u - v for u, v in zip(_summed(plan, some), _summed(plan, none))
  )
  return bias[census.target], kernel[:, census.target]


# What is inverted.


def _merge(plan, history):
  """Returns the round that a client of one image would have answered."""
  census = _census(plan, history)
  catch = _by_class(plan, census, history)
  if len(history) > 2:
    several = census.counts[census.target] > 1.5
    catch = trees.where(several, _by_feature(plan, census, history), catch)
  classes = len(census.counts)
  slope = jnp.where(jnp.arange(classes) == catch.label, -1.0, 1 / (classes - 1))
  own = {
    f'{plan.path}.kernel': catch.features[:, None] * slope,
    f'{plan.path}.bias': slope,
  }
  message = _at_class(plan, history[-1].message, catch.label, catch.row)
  delta = trees.replaced(catch.gradient, own)
  update = history[-1].update._replace(delta=delta)
  return history[-1]._replace(message=message, update=update)


def _by_class(plan, census, history):
  """Returns the mean gradient of the target class."""
  c, gradient = census.target, _gradient(plan, history[1])
  number = jnp.maximum(census.counts[c], 1)
  rate = plan.world.batch_size / number
  mean = jax.tree.map(lambda g: rate * g, gradient)
  h = census.sums[:, c] / number
  return Catch(mean, h, c, jnp.full(len(h), plan.a))


def _by_feature(plan, census, history):
  """Returns the mean gradient of what is above the last threshold (5)."""
  number, features = _above(plan, census, history[2], history[-1])
  number = jnp.maximum(number, search.NEAR)
  h = features / number
  rate = plan.world.batch_size / (plan.m * number)
  mean = jax.tree.map(
    lambda none, some: rate * (none - some),
    _gradient(plan, history[2]),
    _gradient(plan, history[-1]),
  )
  row = jnp.zeros(len(h)).at[census.feature].set(1.0)
  return Catch(mean, h, _class_of(census, h), row)


def _class_of(census, h):
  """Returns the class whose sum of features most probably contains h (7)."""
  counts = census.counts
  mean = (census.sums.sum(1) / counts.sum())[:, None]
  u = census.sums - counts * mean
  without = jnp.square(u - (h[:, None] - mean)).sum(0)
  gain = jnp.square(u).sum(0) / jnp.maximum(counts, 1)
  gain -= without / jnp.maximum(counts - 1, 0.01)
  return jnp.argmax(jnp.where(counts > 0.5, gain, -jnp.inf))


def _label(plan, key, obs):
  """The label of the image, which `_merge` wrote into the classifier."""
  del key
  bias = _classifier(plan, obs.message.variables.params)[1]
  return jnp.argmin(bias)[None].astype(jnp.int32)


def _read(plan, attack, state, obs, hp):
  """Returns the image, or no image if the target class has none."""
  reconstruction = attack.read(state, obs, hp)
  # Without an image of the target class there are no features.
  caught = (_classifier(plan, obs.update.delta)[0] != 0).any()
  return reconstruction._replace(valid=reconstruction.valid & caught)


# The classifier.


def _gradient(plan, obs):
  return plan.world.client.as_gradient(obs.update.delta)


def _classifier(plan, tree):
  return base.kernel_and_bias(tree, plan.path)


def _summed(plan, obs):
  """The gradients of the classifier, summed over the batch."""
  size = plan.world.batch_size
  return tuple(size * leaf for leaf in _classifier(plan, _gradient(plan, obs)))


def _at_class(plan, message, c, row):
  """Returns a message whose classifier leaves class c probability 0 (3)."""
  kernel, bias = _classifier(plan, message.variables.params)
  kernel = jnp.zeros_like(kernel).at[:, c].set(row)
  bias = jnp.full_like(bias, plan.large).at[c].set(0.0)
  return _put(plan, message, kernel, bias)


def _put(plan, message, kernel, bias):
  leaves = {f'{plan.path}.kernel': kernel, f'{plan.path}.bias': bias}
  return base.put(message, leaves)
