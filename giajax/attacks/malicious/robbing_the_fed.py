"""Robbing the Fed: an imprint layer in front, and its gradients' differences.

Fowl et al., Robbing the Fed: Directly Obtaining Private Data in Federated
Learning with Modified Models, ICLR 2022, arXiv 2110.13057. The layer is that of
`imprint`; h(x) = f . x is a measurement of the image in [0, 1], whose mean and
standard deviation the server knows, and q_i are the quantiles of a Gaussian or
Laplace law. The forms:

  cumulative  ReLU, w_i = f, b_i = -q_i. Unit i is reached by all images with
              h > q_i, so that the images of bin i are the difference of the
              gradients of units i and i+1, for which V has equal columns
  sparse      a bounded activation, w_i = f c / (q_i+1 - q_i): unit i is reached
              by the images of its own bin alone. Nothing is subtracted, and
              nothing has to stay as it was for other units: it outlives the
              local steps of FedAvg
  one_shot    the one unit of the sparse form whose bin holds the quantile
              `target`: one image of an aggregate, however large

The images of bin i come back, with g the gradients of a unit's weights and
bias, as

  (1)  x = (g_w,i - g_w,i+1) / (g_b,i - g_b,i+1)     cumulative
  (2)  x = g_w,i / g_b,i                             sparse, one_shot

With equal masses, all of N images in batches of B come back except those that
share a bin: N (1 - 1/k)^(B-1) of them.

Assumed known: the model and the batch size; the server alters the architecture
and, unless it hides in the weights, the parameters; mean and deviation of h, or
proxy images to measure them.

What the client could see is hidden by

  order    the units in random order and, where the activation allows it, at
           scales of random powers of two: biases are not monotone and norms
           not equal. All rows are still proportional, and ReLU forbids to mix
           them: a unit of a mixture is on or off for the mixture, and no map of
           the gradients takes that apart
  weights  nothing is crafted. Both layers keep the weights that torch draws
           for fresh ones; the activation's bound c = sqrt(2 pi / 3) / B lets
           through one image of B of a measurement of deviation 1 / sqrt(3),
           which each unit then has of its own. Units that one image reached
           alone tell it, most images more than one unit; but images of little
           contrast are in the bound of most units together. There is nothing
           to be seen in the weights, and all of it in the architecture: a
           bottleneck with a steep bounded activation in front

Nothing comes back if no gradient reaches the front, as in a fresh network whose
classifier starts at zero (torchvision's vision transformers).

Differs from the authors: their code also has connections that pass the image
on; here the network reads grey images of the measurement's level (with
hidden weights, noise that depends on the image), and no more than 2 d k + k + d
parameters are added. Their one-shot form takes a bin in the middle, which holds
a single image by chance; with `target` it is aimed.
"""

from collections.abc import Callable
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import keys
from giajax import registry
from giajax import require
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import backdrop
from giajax.attacks.parts import candidates
from giajax.attacks.parts import image_vectors
from giajax.attacks.parts import imprint
from giajax.attacks.parts import measurements
from giajax.models import base as models

# What each form can hide.
_HIDE = {
  'cumulative': ('none', 'order'),
  'one_shot': ('none',),
  'sparse': ('none', 'order', 'weights'),
}
_FIRST, _SECOND = f'{models.FRONT}.first', f'{models.FRONT}.second'
# Random scales of units are powers of two up to this one: they round nothing,
# and what should cancel still does.
_SPREAD = 3


class ImprintPlan(NamedTuple):
  """The layer that the server puts in front.

  Attributes:
    world: the attacker's picture of the system.
    units: the number of units k of the layer.
    bound: the bound c of the activation, None for ReLU.
    hide: 'none', 'order' or 'weights'.
    functional: what is measured, `(key, (H, W, C)) -> f [H, W, C]`.
    location: the mean of the measurement, or None to measure it.
    scale: the standard deviation of the measurement, treated like `location`.
    low: the lower ends of the bins, in standard deviations, [k].
    slopes: the slope of each unit in its bin, in units of 1 / deviation, [k].
    gain: every entry of V.
    shift: every entry of e.
  """

  world: worlds.World
  units: int
  bound: float | None
  hide: str
  functional: Callable[[types.Array, tuple[int, int, int]], types.Array]
  location: float | None
  scale: float | None
  low: np.ndarray
  slopes: np.ndarray
  gain: float
  shift: float

  @property
  def bounded(self) -> bool:
    return self.bound is not None


def robbing_the_fed(
  world: worlds.World,
  *,
  bins: int = 1000,
  form: str = 'cumulative',
  functional: str = 'mean',
  law: str = 'gaussian',
  location: float | None = None,
  scale: float | None = None,
  ceiling: float = 1e-3,
  target: float = 0.5,
  hide: str = 'none',
) -> base.Attack:
  """Images as differences of an imprint layer's gradients; exact.

  Args:
    world: the attacker's picture of the system.
    bins: the number of bins k, of equal mass.
    form: 'cumulative', 'sparse' or 'one_shot'.
    functional: what is measured, a name in `measurements.FUNCTIONALS`.
    law: the law of the measurement, a name in `measurements.LAWS`; the authors
      take 'laplace' for 'fourier'.
    location: the mean of the measurement; measured on 'proxy_data' if None.
    scale: the standard deviation of the measurement, treated like `location`.
    ceiling: the bound c of the bounded activation. The smaller it is, the
      larger the gradients are compared with the weights, which FedAvg's
      differences need in float32.
    target: the quantile of the one-shot form's image, in [0, 1).
    hide: 'none', 'order' or, in the sparse form, 'weights', where `ceiling`
      and the measurement have no effect.

  Raises:
    ValueError: a name that does not exist, a number outside its range, fewer
      bins than images (except for one shot), a form that does not survive the
      local steps of the client, or a network that takes no layer in front.
  """
  registry.lookup(_HIDE, form, 'form')
  require.one_of(
    hide,
    'hide',
    _HIDE[form],
    advice=f'choose one of them, or another form than {form!r}',
  )
  measure = registry.lookup(measurements.FUNCTIONALS, functional, 'functional')
  require.positive(ceiling, 'ceiling', advice='the default is 1e-3')
  require.fraction(target, 'target', zero=True, one=False)
  single, fresh = form == 'one_shot', hide == 'weights'
  images = 1 if single else world.batch_size
  imprint.check(
    world,
    'robbing_the_fed',
    bins=bins,
    images=images,
    law=law,
    location=location,
    scale=scale,
  )
  if form == 'cumulative':
    require.one_step(
      world.client,
      f'form={form!r}',
      advice="use 'sparse' or 'one_shot', whose bins do not move",
    )

  if fresh:
    ceiling = math.sqrt(2 * math.pi / 3) / world.batch_size
  bound = None if form == 'cumulative' else ceiling
  low, high = _ends(law, bins, int(target * bins) if single else None)
  grid = measurements.centres(law, min(bins, 1000))
  slopes, activations = _responses(low, high, grid, bound)
  gain, shift = imprint.grey_levels(activations)
  plan = ImprintPlan(
    world,
    len(low),
    bound,
    hide,
    measure,
    location,
    scale,
    low,
    slopes,
    gain,
    shift,
  )
  needs = {'model', 'batch_size', 'alter_architecture'}
  if not fresh:
    needs |= {'alter_parameters', *measurements.knowledge(location)}
  return base.closed_form(
    functools.partial(_read, plan),
    needs=needs,
    craft=base.honest if fresh else functools.partial(_craft, plan),
    on_net=imprint.insert(functools.partial(_front, plan)),
  )


def _ends(
  law: str, bins: int, only: int | None
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the lower and upper ends of all bins, or of a single one."""
  ends = measurements.edges(law, bins)
  which = slice(None) if only is None else slice(only, only + 1)
  return ends[:-1][which], ends[1:][which]


def _responses(low, high, grid, bound):
  """Returns the slopes [k] of the units, and what they make of a grid [k, n].

  Args:
    low: the lower ends of the bins, in standard deviations, [k].
    high: the upper ends of the bins, [k].
    grid: equally likely measurements, [n].
    bound: the bound c, or None for ReLU.
  """
  inside = grid - low[:, None]
  if bound is None:
    return np.ones(len(low)), np.maximum(inside, 0)
  widths = high - low
  return bound / widths, np.clip(inside / widths[:, None], 0, 1)


def _front(plan, *, rngs):
  """Returns the layer, with drawn weights where the attack hides in them."""
  shape, fresh = plan.world.net.spec.image_shape, plan.hide == 'weights'
  return imprint.Front(
    math.prod(shape), shape, plan.units, plan.bound, fresh=fresh, rngs=rngs
  )


def _craft(plan, key, message, side, history):
  """Returns a message whose first layer sorts images into bins."""
  del history
  spec = plan.world.net.spec
  f = plan.functional(keys.named(key, 'functional'), spec.image_shape)
  centre, deviation = measurements.statistics(
    side, f, plan.location, plan.scale
  )
  # In deviations, and of a normalised image: h(x) = w . x + b.
  w = image_vectors.to_vector(f * jnp.asarray(spec.std)) / deviation
  b = ((f * jnp.asarray(spec.mean)).sum() - centre) / deviation
  order, ratio = _disguise(plan, key)
  steep = jnp.asarray(plan.slopes)[order] * ratio
  leaves = {
    f'{_FIRST}.kernel': w[:, None] * steep,
    f'{_FIRST}.bias': (b - plan.low)[order] * steep,
    # A unit of another scale counts as much as the others.
    f'{_SECOND}.kernel': jnp.full((plan.units, len(w)), plan.gain)
    / ratio[:, None],
    f'{_SECOND}.bias': plan.shift + backdrop.backdrop(plan.world.net),
  }
  return base.put(message, leaves)


def _disguise(plan, key):
  """Returns the order of the units [k] and the factors of their rows [k]."""
  order, ratio = jnp.arange(plan.units), jnp.ones(plan.units)
  if plan.hide != 'order':
    return order, ratio
  order = jax.random.permutation(keys.named(key, 'order'), plan.units)
  # A bounded unit at another scale would have another bin.
  if not plan.bounded:
    key = keys.named(key, 'scales')
    powers = jax.random.randint(key, (plan.units,), -_SPREAD, _SPREAD + 1)
    ratio = jnp.ldexp(1.0, powers)
  return order, ratio


def _read(plan, obs):
  """Returns the images of the bins that hold most of the gradient."""
  world, count = plan.world, min(plan.units, plan.world.batch_size)
  rows, bias = _gradients(plan, obs)
  # The mass of a bin is the denominator of (1) or (2).
  mass = bias if plan.bounded else bias - jnp.append(bias[1:], 0.0)
  # Where images reach several units, the units that they reach alone may not be
  # the largest.
  several = plan.hide == 'weights' or world.client.local_steps > 1
  considered = plan.units if several else count
  amount, units = jax.lax.top_k(jnp.abs(mass), considered)
  flat, mass = rows(units), mass[units]
  if not plan.bounded:
    last = plan.units - 1
    above = rows(jnp.minimum(units + 1, last))
    flat -= jnp.where((units == last)[:, None], 0.0, above)
  flat /= jnp.where(mass == 0, 1.0, mass)[:, None]
  x = image_vectors.to_pixels(flat, world.net.spec)
  images = candidates.Candidates(x, amount)
  return candidates.reconstruction(images, count, world.batch_size)


def _gradients(plan, obs):
  """Returns the gradients of the units, in the order of their cut-offs.

  Returns:
    `(indices [C]) -> [C, d]`, of their weights, and [k], of their biases.
  """
  names = f'{_FIRST}.kernel', f'{_FIRST}.bias'
  leaves = trees.named_leaves(obs.update.delta)
  own = {name: leaves[name] for name in names}
  kernel, bias = (plan.world.client.as_gradient(own)[name] for name in names)
  if plan.hide != 'order' or plan.bounded:
    return lambda i: kernel[:, i].T, bias
  sent = trees.named_leaves(obs.message.variables.params)
  norms = jnp.linalg.norm(sent[names[0]], axis=0)
  order = jnp.argsort(-sent[names[1]] / norms)
  ratio = norms[order]

  def rows(i):
    return kernel[:, order[i]].T * ratio[i][:, None]

  return rows, bias[order] * ratio
