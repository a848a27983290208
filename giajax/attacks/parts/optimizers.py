"""Parts of the optimisers that attacks use, as optax transformations.

Their updates have unit learning rate: `match` multiplies them by the traced
knob. In addition to optax's own extra arguments, `match` passes the step's
`key` and the knobs `hp`.
"""

from collections.abc import Callable, Mapping, Sequence
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from giajax import keys
from giajax import require
from giajax import trees
from giajax import types


class Count(NamedTuple):
  """The number of steps taken."""

  count: types.Array  # [] int32


class Restarted(NamedTuple):
  """What a transformation remembers, and the number of steps taken."""

  memory: Any
  count: types.Array  # [] int32


def _begin(params) -> Count:
  del params
  return Count(jnp.zeros((), jnp.int32))


def _after(state: Count) -> Count:
  return Count(state.count + 1)


# What happens to a gradient before Adam sees it.


def signed() -> optax.GradientTransformation:
  """Replaces every entry of a gradient by its sign."""
  return optax.stateless(lambda updates, _: jax.tree.map(jnp.sign, updates))


def soft_signed(num_steps: int) -> optax.GradientTransformation:
  """Replaces g by tanh(s g) / s, where s = 1 - t / T falls over the run.

  The 'soft' sign of breaching, the framework of Geiping et al. (2021-2022):
  bounded by 1 at the start, the gradient itself at the end.
  """

  def update(updates, state, params=None):
    del params
    left = jnp.maximum(1.0, num_steps - state.count.astype(jnp.float32))
    s = left / num_steps
    return jax.tree.map(lambda g: jnp.tanh(s * g) / s, updates), _after(state)

  return optax.GradientTransformation(_begin, update)


def coarse_to_fine(
  sides: Sequence[int], num_steps: int
) -> optax.GradientTransformation:
  """Averages gradients of images over square blocks, which become smaller.

  Stage i of S equal ones has blocks of sides[i] pixels. An image that is flat
  in each block (the start 'coarse:...') stays so within the stage under any
  optimiser that works pixel by pixel: this optimises an image of lower
  resolution, which is enlarged to the next resolution by repeating its pixels.

  Args:
    sides: the sides of the stages, descending to 1.
    num_steps: T of the run.
  """

  def update(updates, state, params=None):
    del params
    stage = _stage(state.count, num_steps, len(sides))

    def average(g):
      if g.ndim != 4:
        return g
      rows, columns = (_averages(sides, n)[stage] for n in g.shape[1:3])
      exact = jax.lax.Precision.HIGHEST
      g = jnp.einsum('ij,bjkc->bikc', rows, g, precision=exact)
      return jnp.einsum('ij,bkjc->bkic', columns, g, precision=exact)

    return jax.tree.map(average, updates), _after(state)

  return optax.GradientTransformation(_begin, update)


def _stage(count, num_steps: int, stages: int):
  return jnp.minimum(count * stages // num_steps, stages - 1)


def _averages(sides: Sequence[int], length: int) -> types.Array:
  """Returns [S, length, length]: the mean over each pixel's block."""
  index = np.stack([np.arange(length) // side for side in sides])
  together = (index[:, :, None] == index[:, None, :]).astype(np.float32)
  return jnp.asarray(together / together.sum(axis=2, keepdims=True))


def flat(
  fraction: float, radius: float
) -> optax.GradientTransformationExtraArgs:
  """Descends towards flat minima: penalises the norm of the gradient.

  For the objective D + a |dD/dx| the derivative is, to first order in the
  radius r and with a = f r,

    (1 - f) dD/dx (x) + f dD/dx (x + r u),   u = dD/dx / |dD/dx|

  Zhao, Zhang and Hu, Penalizing Gradient Norm for Efficiently Improving
  Generalization in Deep Learning, ICML 2022, arXiv 2202.03599, eq. 10.

  Args:
    fraction: the fraction f, in [0, 1].
    radius: the radius r > 0, in units of what is optimised.

  Raises:
    ValueError: a number out of range.
  """
  require.fraction(fraction, 'fraction', zero=True, advice='use 0.5')
  require.positive(radius, 'radius', advice='use 0.1')

  def update(updates, state, params=None, **extra):
    scale = radius / trees.safe_sqrt(trees.squared_norm(updates))
    ahead = jax.tree.map(lambda p, g: p + scale * g, params, updates)
    there = jax.grad(extra['value_fn'])(ahead, key=extra['key'], hp=extra['hp'])
    mix = jax.tree.map(
      lambda g, h: (1 - fraction) * g + fraction * h, updates, there
    )
    return mix, state

  return optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(), update
  )


# What happens to a step.


def langevin(scale: float) -> optax.GradientTransformationExtraArgs:
  """Adds normal noise to the steps, in front of the schedule that scales it.

  Yin et al., See through Gradients, CVPR 2021, arXiv 2104.07586.

  Args:
    scale: the standard deviation at the full learning rate.
  """

  def update(updates, state, params=None, **extra):
    del params
    key = keys.named(extra['key'], 'langevin')
    leaves, treedef = jax.tree.flatten(updates)
    noisy = [
      leaf + scale * keys.normal(keys.at(key, i), leaf.shape)
      for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(treedef, noisy), state

  return optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(), update
  )


def median_filter(every: int) -> optax.GradientTransformationExtraArgs:
  """Replaces images by their 3 x 3 medians at intervals; must be the last part.

  Borders are reflected. The authors' code of Geiping et al. 2020 (arXiv
  2003.14053) has it as an option, every 500 steps.

  Args:
    every: the steps between two filters, 0 for none.

  Raises:
    ValueError: a number that is not whole, or negative.
  """
  require.whole(
    every, 'median_every', least=0, advice='use 500, or 0 for no filter'
  )
  if not every:
    return optax.with_extra_args_support(optax.identity())

  def update(updates, state, params=None, **extra):
    state = _after(state)
    due = state.count % every == 0
    rate = extra['hp']['learning_rate']

    def filtered(p, u):
      if p.ndim != 4:
        return u
      return jnp.where(due, (medians(p + rate * u) - p) / rate, u)

    return jax.tree.map(filtered, params, updates), state

  return optax.GradientTransformationExtraArgs(_begin, update)


def medians(x: types.Array) -> types.Array:
  """Returns the median of each pixel's 3 x 3 neighbours, [B, H, W, C]."""
  h, w = x.shape[1:3]
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode='reflect')
  # The median of nine is the median of three values: the largest of the minima,
  # the median of the medians and the smallest of the maxima of three rows.
  rows = [
    _sorted(*(x[:, i : i + h, j : j + w] for j in range(3))) for i in range(3)
  ]
  low, middle, high = zip(*rows)
  return _sorted(_sorted(*low)[2], _sorted(*middle)[1], _sorted(*high)[0])[1]


def _sorted(a, b, c):
  least, most = jnp.minimum(a, b), jnp.maximum(a, b)
  middle = jnp.maximum(least, jnp.minimum(most, c))
  return jnp.minimum(least, c), middle, jnp.maximum(most, c)


# Schedules, and whole optimisers.


_DECAYS = (2.667, 1.6, 1.142)
STEADY = (0.0, 1 / _DECAYS[0])  # `Attack.steady` of what follows


def step_decay(num_steps: int) -> optax.Schedule:
  """Returns 1, divided by 10 at T/2.667, T/1.6 and T/1.142."""
  return optax.piecewise_constant_schedule(
    1.0, {int(num_steps / d): 0.1 for d in _DECAYS}
  )


def shares(num_steps: int, stages: int) -> list[int]:
  """Returns the steps of each stage of `coarse_to_fine`, T in all."""
  ends = [-(-i * num_steps // stages) for i in range(stages + 1)]
  return [end - start for start, end in itertools.pairwise(ends)]


def repeated(
  schedule: Callable[[int], optax.Schedule], steps: Sequence[int]
) -> optax.Schedule:
  """Returns a schedule that begins again in each stage.

  Args:
    schedule: `steps -> schedule`, for the steps of a stage.
    steps: the number of steps of each stage.
  """
  within = [schedule(count) for count in steps]
  return optax.join_schedules(within, [*itertools.accumulate(steps[:-1])])


def steady_in_last(
  steady: tuple[float, float], steps: Sequence[int]
) -> tuple[float, float]:
  """Returns `Attack.steady` of a run in stages.

  Args:
    steady: that of the last stage, in shares of its steps.
    steps: the number of steps of each stage.
  """
  steps = [count for count in steps if count]
  total = sum(steps)
  begin, end = (total - steps[-1] * (1 - share) for share in steady)
  return begin / total, end / total


def restarted(
  part: optax.GradientTransformation, steps: Sequence[int]
) -> optax.GradientTransformationExtraArgs:
  """Forgets what a transformation remembers at the start of each stage.

  Args:
    part: the transformation.
    steps: the number of steps of each stage.
  """
  starts = np.cumsum(steps[:-1], dtype=np.int32)
  inner = optax.with_extra_args_support(part)

  def init(params):
    return Restarted(inner.init(params), jnp.zeros((), jnp.int32))

  def update(updates, state, params=None, **extra):
    fresh = trees.strong(inner.init(params))  # pyrefly: ignore
    memory = trees.where((state.count == starts).any(), fresh, state.memory)
    updates, memory = inner.update(updates, memory, params, **extra)
    return updates, Restarted(memory, state.count + 1)

  return optax.GradientTransformationExtraArgs(init, update)


def ramps(num_steps: int, rise: float, fall: float) -> optax.Schedule:
  """Returns a linear rise to 1 and, at the end, half a cosine to 0.

  Args:
    num_steps: the steps T.
    rise: the share of the steps in which it rises, in [0, 1].
    fall: the share of the steps in which it falls, in (0, 1].
  """

  def schedule(count):
    up = jnp.minimum(1.0, (count + 1) / max(1.0, rise * num_steps))
    left = jnp.minimum(1.0, (num_steps - count) / (fall * num_steps))
    return up * 0.5 * (1 - jnp.cos(jnp.pi * left))

  return schedule


def cosine_decay(num_steps: int, warmup_steps: int) -> optax.Schedule:
  """Returns half a cosine from 1 to 0, after a linear rise.

  Args:
    num_steps: the step T at which it is 0.
    warmup_steps: the steps of the rise, the first of them at 1 / warmup_steps.

  Raises:
    ValueError: a number of steps that is not whole, or negative.
  """
  require.whole(warmup_steps, 'warmup_steps', least=0, advice='use 50')

  def schedule(count):
    rise = jnp.minimum(1.0, (count + 1) / max(1, warmup_steps))
    return rise * 0.5 * (1 + jnp.cos(jnp.pi * count / num_steps))

  return schedule


def adam(
  schedule: optax.Schedule,
  *,
  before: Sequence[optax.GradientTransformation] = (),
  after: Sequence[optax.GradientTransformation] = (),
  last: Sequence[optax.GradientTransformation] = (),
) -> optax.GradientTransformationExtraArgs:
  """Returns Adam with a schedule and further parts.

  Args:
    schedule: the factor of the learning rate.
    before: a transformation of the gradient.
    after: a transformation of Adam's direction; scaled by the schedule.
    last: a transformation of the whole step.
  """
  return optax.chain(
    *before,
    optax.scale_by_adam(),
    *after,
    optax.scale_by_schedule(schedule),
    optax.scale(-1.0),
    *last,
  )


def adam_in_stages(
  schedule: Callable[[int], optax.Schedule],
  steps: Sequence[int],
  *,
  last: Sequence[optax.GradientTransformation] = (),
) -> optax.GradientTransformationExtraArgs:
  """Returns Adam that begins again in each stage, as its schedule does.

  What has no gradient in a stage does not move in it.

  Args:
    schedule: `steps -> schedule`, for the steps of a stage.
    steps: the number of steps of each stage.
    last: a transformation of the whole step.
  """
  return optax.chain(
    restarted(optax.scale_by_adam(), steps),
    optax.scale_by_schedule(repeated(schedule, steps)),
    optax.scale(-1.0),
    *last,
  )


def at_rates(
  rates: Mapping[str, str],
) -> optax.GradientTransformationExtraArgs:
  """Gives entries of a dict learning rates of their own.

  Args:
    rates: the names of knobs, by those of entries.
  """

  def update(updates, state, params=None, **extra):
    del params
    hp = extra['hp']

    def scaled(entry, name):
      factor = hp[name] / hp['learning_rate']
      return jax.tree.map(lambda u: factor * u, entry)

    own = {entry: scaled(updates[entry], name) for entry, name in rates.items()}
    return {**updates, **own}, state

  return optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(), update
  )


def signed_adam(num_steps: int) -> optax.GradientTransformationExtraArgs:
  """Returns Adam on the sign of the gradient, with `step_decay`."""
  return adam(step_decay(num_steps), before=[signed()])


def rmsprop(
  decay: float, momentum: float
) -> optax.GradientTransformationExtraArgs:
  """Returns torch's RMSprop: scaled gradients, then momentum.

  Args:
    decay: the decay of the mean of squares, in [0, 1).
    momentum: the decay of the sum of scaled gradients, in [0, 1).

  Raises:
    ValueError: a number out of range.
  """
  require.fraction(decay, 'decay', zero=True, one=False)
  require.fraction(momentum, 'momentum', zero=True, one=False)
  return optax.chain(
    optax.scale_by_rms(decay, 1e-8, eps_in_sqrt=False),
    optax.trace(momentum),
    optax.scale(-1.0),
  )


def lbfgs(
  memory_size: int, max_linesearch_steps: int
) -> optax.GradientTransformationExtraArgs:
  """L-BFGS with a zoom line search; updates of unit learning rate.

  Args:
    memory_size: the number of pairs that L-BFGS remembers, >= 1.
    max_linesearch_steps: the evaluations that a line search may take, >= 1.

  Raises:
    ValueError: a number below 1.
  """
  require.whole(memory_size, 'memory_size', advice='use 10')
  require.whole(max_linesearch_steps, 'max_linesearch_steps', advice='use 20')
  return optax.lbfgs(
    memory_size=memory_size,
    linesearch=optax.scale_by_zoom_linesearch(
      max_linesearch_steps=max_linesearch_steps, initial_guess_strategy='one'
    ),
  )
