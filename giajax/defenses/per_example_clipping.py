"""Per-example clipping and Gaussian noise: the mechanism of DP-SGD.

Abadi et al., Deep Learning with Differential Privacy, CCS 2016, arXiv
1607.00133. Of B images with gradients g_i the client sends

  1/B (sum_i g_i min(1, clip / |g_i|) + N(0, (noise_multiplier clip)^2))

over all leaves together. `multiplier` finds the noise that guarantees one
example an epsilon over a training, by the Renyi accountant of
google/differential-privacy (dp-accounting), for batches drawn by Poisson
sampling; the proof does not cover a simulated client whose batches are drawn
otherwise, although it adds the same noise. BatchNorm in training mode couples
examples and cannot be combined with it. Where a loss is no mean over examples,
as that of a detector, g_i is the gradient of a batch of one.
"""

import math

import jax
import jax.numpy as jnp

from giajax import keys
from giajax import require
from giajax import trees
from giajax import types
from giajax.clients import base as clients
from giajax.defenses import base


def per_example_clipping(
  *,
  clip: float,
  noise_multiplier: float = 0.0,
  epsilon: float | None = None,
  delta: float = 1e-5,
  sampling_rate: float = 1.0,
  rounds: int = 1,
) -> base.Defense:
  """Clips the gradient of each example and adds noise to their sum.

  A server that knows the defence clips the candidate's gradients in the same
  way.

  Args:
    clip: the largest norm of an example's gradient, > 0.
    noise_multiplier: the standard deviation of the noise on the sum, divided by
      `clip`.
    epsilon: the guarantee to reach, in place of the noise multiplier.
    delta: the delta of that guarantee, in (0, 1).
    sampling_rate: part of the client's examples in a batch, in (0, 1].
    rounds: updates sent in all.

  Raises:
    ValueError: a value outside its range, or both epsilon and a multiplier. The
      client's `update` raises it for BatchNorm in training mode, and
      `on_client` for several local steps.
  """
  require.positive(
    clip, 'clip', advice="choose the median norm of an example's gradient"
  )
  if not 0 <= noise_multiplier < math.inf or (
    epsilon is not None and noise_multiplier
  ):
    raise ValueError(
      'Expected a finite noise_multiplier >= 0, and none with epsilon; got '
      f'noise_multiplier={noise_multiplier}, epsilon={epsilon}; give one'
    )
  if epsilon is not None:
    noise_multiplier = multiplier(
      epsilon, delta=delta, sampling_rate=sampling_rate, rounds=rounds
    )

  def on_client(client, noise=noise_multiplier):
    require.one_step(client, 'per_example_clipping')

    def update(key, message, batch, taps=()):
      if client.train_mode and message.variables.stats:
        raise ValueError(
          'Expected a network without BatchNorm in training mode for '
          'per_example_clipping; got running statistics; use norm="group" or '
          'train_mode=False'
        )
      own = keys.named(key, 'client')
      clean, output = client.update(own, message, batch, taps)

      def clipped(x, y):
        one = trees.single(types.Batch(x, y))
        gradient = client.update(own, message, one)[0].delta
        norm = trees.safe_sqrt(trees.squared_norm(gradient))
        factor = jnp.minimum(1.0, clip / norm)
        return jax.tree.map(lambda g: factor * g, gradient)

      # One after the other: of a large batch, the gradients of all examples
      # do not fit in memory.
      def add(total, example):
        return jax.tree.map(jnp.add, total, clipped(*example)), None

      zero = jax.tree.map(jnp.zeros_like, clean.delta)
      total, _ = jax.lax.scan(add, zero, batch)
      root = keys.named(key, 'per_example_clipping')
      scale = noise * clip / len(batch.x)
      noisy = {
        path: leaf / len(batch.x)
        + scale * keys.normal(keys.named(root, path), leaf.shape)
        for path, leaf in trees.named_leaves(total).items()
      }
      return clean._replace(delta=trees.like(clean.delta, noisy)), output

    return clients.with_update(client, update)

  return base.Defense(
    on_client=on_client, on_belief=lambda client: on_client(client, 0.0)
  )


def multiplier(
  epsilon: float,
  *,
  delta: float = 1e-5,
  sampling_rate: float = 1.0,
  rounds: int = 1,
) -> float:
  """Returns the least noise multiplier that guarantees an epsilon.

  The guarantee is (epsilon, delta)-differential privacy, where neighbouring
  data sets differ by one example that is added or removed.

  Args:
    epsilon: > 0.
    delta: in (0, 1).
    sampling_rate: part of the client's examples in a batch, in (0, 1].
    rounds: updates sent in all.

  Raises:
    ValueError: a value outside its range.
  """
  _check(epsilon, delta, sampling_rate, rounds)
  import dp_accounting  # it takes a second, of commands that do not need it
  from dp_accounting import rdp

  def event(noise_multiplier):
    one = dp_accounting.GaussianDpEvent(noise_multiplier)
    sampled = dp_accounting.PoissonSampledDpEvent(sampling_rate, one)
    return dp_accounting.SelfComposedDpEvent(sampled, rounds)

  return dp_accounting.calibrate_dp_mechanism(
    rdp.RdpAccountant, event, epsilon, delta
  )


def _check(epsilon, delta, sampling_rate, rounds):
  ranges = 0 < delta < 1 and 0 < sampling_rate <= 1 and rounds >= 1
  if not 0 < epsilon < math.inf or not ranges:
    raise ValueError(
      'Expected a finite epsilon > 0, delta in (0, 1), sampling_rate in (0, 1] '
      f'and rounds >= 1; got epsilon={epsilon}, delta={delta}, '
      f'sampling_rate={sampling_rate}, rounds={rounds}; correct them'
    )
