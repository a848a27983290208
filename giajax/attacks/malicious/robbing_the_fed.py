"""Robbing the Fed: an imprint layer in front, and its gradients' differences.

Fowl et al., Robbing the Fed: Directly Obtaining Private Data in Federated
Learning with Modified Models, ICLR 2022, arXiv 2110.13057. The layer is that of
`imprint`; h(x) = f . x is a measurement of the image in [0, 1], of which the
server knows mean and deviation, and q_i are the quantiles of a Gaussian or
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

With equal masses N images in batches of B come back but for those that share a
bin, N (1 - 1/k)^(B-1) of them.

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

Nothing comes back where no gradient reaches the front, as in a fresh network
whose classifier starts at zero (torchvision's vision transformers).

Deviations: the authors' code also knows connections that pass the image on;
here the network behind reads grey images of the measurement's level (with
hidden weights, noise that depends on the image), and no more than 2 d k + k + d
parameters are added. Their one-shot form takes a bin in the middle, which holds
a single image by chance; with `target` it is aimed.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from giajax import keys
from giajax import registry
from giajax import trees
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import backdrop
from giajax.attacks.parts import imprint
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
    bins: k, of equal mass.
    form: 'cumulative', 'sparse' or 'one_shot'.
    functional: what is measured, a name in `imprint.FUNCTIONALS`.
    law: the measurement's, a name in `imprint.LAWS`; the authors take
      'laplace' for 'fourier'.
    location: mean of the measurement; from 'proxy_data' if None.
    scale: its standard deviation, likewise.
    ceiling: c of the bounded activation. The smaller, the larger are the
      gradients beside the weights, which FedAvg's differences need in float32.
    target: quantile of the one-shot form's image, in [0, 1).
    hide: 'none', 'order' or, in the sparse form, 'weights', where `ceiling`
      and the measurement have no say.

  Raises:
    ValueError: a name that does not exist, a number outside its range, fewer
      bins than images (but for one shot), a form that does not survive the
      local steps of the client, or a network that takes no layer in front.
  """
  _check(world, form, hide, ceiling, target)
  registry.lookup(imprint.FUNCTIONALS, functional, 'functional')
  single, drawn = form == 'one_shot', hide == 'weights'
  least = 1 if single else world.batch_size
  imprint.check(world, 'robbing_the_fed', bins, least, law, location, scale)
  if drawn:
    ceiling = math.sqrt(2 * math.pi / 3) / world.batch_size
  bound = None if form == 'cumulative' else ceiling
  shape, units = world.net.spec.image_shape, 1 if single else bins

  def make(*, rngs):
    size = math.prod(shape)
    return imprint.Front(size, shape, units, bound, fresh=drawn, rngs=rngs)

  needs = {'model', 'batch_size', 'alter_architecture'}
  on_net = imprint.insert(make)
  read = _reading(world, units, bound is not None, hide)
  if drawn:
    return base.closed_form(read, needs=needs, on_net=on_net)
  low, high = _ends(law, bins, int(target * bins) if single else None)
  behind = backdrop.backdrop(world.net)
  grid = imprint.centres(law, min(bins, 1000))
  leaves = _leaves(low, high, grid, bound, behind)

  def craft(key, message, side, history):
    del history
    measure = imprint.FUNCTIONALS[functional]
    weights = measure(keys.named(key, 'functional'), shape)
    centre, deviation = imprint.statistics(side, weights, location, scale)
    order, ratio = jnp.arange(units), jnp.ones(units)
    if hide == 'order':
      order = jax.random.permutation(keys.named(key, 'order'), units)
      # A bounded unit at another scale would have another bin.
      if bound is None:
        powers = jax.random.randint(
          keys.named(key, 'scales'), (units,), -_SPREAD, _SPREAD + 1
        )
        ratio = jnp.ldexp(1.0, powers)
    # Of normalised images.
    one = imprint.flatten(weights * jnp.asarray(world.net.spec.std)) / deviation
    zero = (weights * jnp.asarray(world.net.spec.mean)).sum() - centre
    return base.put(message, leaves(one, zero / deviation, order, ratio))

  needs |= {'alter_parameters', *imprint.knowledge(location)}
  return base.closed_form(read, needs=needs, craft=craft, on_net=on_net)


def _leaves(low, high, grid, bound, behind):
  """Returns `(w [d], b [], order [k], ratio [k]) -> leaves` of the layer.

  Args:
    low: [k] lower ends of the bins, in deviations.
    high: [k] upper ends.
    grid: [n] measurements that are equally likely.
    bound: c, or None.
    behind: [d] what is added to the grey images.
  """
  inside = grid - low[:, None]
  if bound is None:
    slopes, reached = np.ones(len(low)), np.maximum(inside, 0)
  else:
    slopes = bound / (high - low)
    reached = np.clip(inside / (high - low)[:, None], 0, 1)
  gain, shift = imprint.passed_on(reached)

  def leaves(one, zero, order, ratio):
    steep, biases = jnp.asarray(slopes)[order] * ratio, zero - low
    rows = jnp.full((len(low), len(one)), gain)
    return {
      f'{_FIRST}.kernel': one[:, None] * steep,
      f'{_FIRST}.bias': biases[order] * steep,
      f'{_SECOND}.kernel': rows / ratio[:, None],
      f'{_SECOND}.bias': shift + jnp.asarray(behind),
    }

  return leaves


def _reading(world, units, bounded, hide):
  """Returns the attack's `read`."""
  spec, count = world.net.spec, min(units, world.batch_size)
  # Where images reach several units, those that they have alone need not be
  # the largest.
  several = hide == 'weights' or world.client.local_steps > 1
  considered = units if several else count

  def read(obs):
    rows, bias = _gradients(world, obs, hide == 'order' and not bounded)
    mass = bias if bounded else bias - jnp.append(bias[1:], 0.0)
    amount, picked = jax.lax.top_k(jnp.abs(mass), considered)
    flat, mass = rows(picked), mass[picked]
    if not bounded:
      last = (picked == units - 1)[:, None]
      flat -= jnp.where(last, 0.0, rows(jnp.minimum(picked + 1, units - 1)))
    flat /= jnp.where(mass == 0, 1.0, mass)[:, None]
    x = imprint.unflatten(flat, spec.image_shape) * jnp.asarray(spec.std)
    found = imprint.Candidates(x + jnp.asarray(spec.mean), amount)
    return imprint.reconstruction(found, count, world.batch_size)

  return read


def _ends(
  law: str, bins: int, only: int | None
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the lower and upper ends of all bins, or of a single one."""
  ends = imprint.edges(law, bins)
  which = slice(None) if only is None else slice(only, only + 1)
  return ends[:-1][which], ends[1:][which]


def _gradients(world, obs, disordered):
  """Returns the gradients of the units, in the order of their cut-offs.

  Returns:
    `(indices [C]) -> [C, d]`, of their weights, and [k], of their biases.
  """
  names = f'{_FIRST}.kernel', f'{_FIRST}.bias'
  leaves = trees.named_leaves(obs.update.delta)
  sent = world.client.as_gradient({name: leaves[name] for name in names})
  kernel, bias = (sent[name] for name in names)
  if not disordered:
    return lambda i: kernel[:, i].T, bias
  held = trees.named_leaves(obs.message.variables.params)
  norms = jnp.linalg.norm(held[names[0]], axis=0)
  order = jnp.argsort(-held[names[1]] / norms)
  ratio = norms[order]

  def rows(i):
    return kernel[:, order[i]].T * ratio[i][:, None]

  return rows, bias[order] * ratio


def _check(world, form, hide, ceiling, target):
  if form not in _HIDE:
    raise ValueError(
      f'Expected a form among {", ".join(_HIDE)}; got form={form!r}; choose '
      'one of them'
    )
  possible = _HIDE[form]
  if hide not in possible:
    raise ValueError(
      f'Expected hide among {", ".join(possible)} for form={form!r}; got '
      f'hide={hide!r}; choose one of them, or another form'
    )
  if form == 'cumulative' and world.client.local_steps > 1:
    raise ValueError(
      "Expected form 'sparse' or 'one_shot' for a client that takes local "
      f'steps; got form={form!r} with {world.client.local_steps} steps, which '
      'move the cut-offs that it subtracts; choose another form'
    )
  if not 0 < ceiling < math.inf or not 0 <= target < 1:
    raise ValueError(
      'Expected a finite ceiling above 0 and a target in [0, 1); got '
      f'ceiling={ceiling}, target={target}; correct them'
    )
