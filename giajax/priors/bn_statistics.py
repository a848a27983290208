"""BatchNorm statistics: the candidate's layer inputs have known moments.

  R(x) = sum over layers l of |mu_l(x) - m_l|_2 + |var_l(x) - v_l|_2

with the mean and the biased variance of each normalisation layer's input over
the candidate batch, in the pass that the matching loss makes. Where the targets
m and v come from is the source:

  before    the buffers of the received model, statistics of its training data
            (Yin et al., See through Gradients, CVPR 2021, arXiv 2104.07586).
  after     the buffers that the client sent back, taken as they are (Huang et
            al., Evaluating Gradient Inversion Attacks and Defenses in Federated
            Learning, NeurIPS 2021, arXiv 2112.00059).
  running   those of the client's batch alone, from both: for momentum m and n
            values per channel, (after - (1 - m) before) / m, and the variance
            times (n - 1) / n where buffers hold the unbiased one. Exact for
            one local step, in training mode.
  estimate  those of a proxy batch in the same mode, and also for LayerNorm and
            GroupNorm, by one mean and one variance per layer.

'running' and 'estimate' are of Valadi et al., Practical Feasibility of Gradient
Inversion Attacks in Federated Learning, 2025, arXiv 2508.19819.
"""

from collections.abc import Iterable, Mapping
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from giajax import registry
from giajax import require
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.clients import base as clients
from giajax.models import base as models
from giajax.models import inspect
from giajax.priors import base

SOURCES: dict[str, frozenset[str]] = {
  'before': frozenset({'bn_buffers_before'}),
  'after': frozenset({'bn_buffers_after'}),
  'running': frozenset(
    {'bn_buffers_before', 'bn_buffers_after', 'client_hparams'}
  ),
  'estimate': frozenset({'proxy_data'}),
}


class Moments(NamedTuple):
  """Statistics of a layer's input."""

  mean: types.Array  # [C], or [] over all channels
  var: types.Array  # the same, the biased variance
  count: int  # the number of values behind each of them


def bn_statistics(
  world: worlds.World,
  *,
  source: str = 'running',
  momentum: float | None = None,
) -> base.Term:
  """The inputs of normalisation layers have known means and variances.

  Args:
    world: the attacker's picture of the network and the client.
    source: the source of the targets, a name in `SOURCES`.
    momentum: the momentum of every BatchNorm layer, for 'running', in (0, 1];
      None for the network's own. Networks are asked whether their buffers hold
      the unbiased variance.

  Raises:
    ValueError: an unknown source, a momentum outside (0, 1], a network without
      the layers or, for 'running', one that cannot report their momentum, an
      aggregate, a client of several local steps or one in inference mode.
  """
  needs = registry.lookup(SOURCES, source, 'source')
  if momentum is not None:
    require.fraction(
      momentum, 'momentum', advice="leave it out for the network's"
    )
  batch_norms = _batch_norms(world.net)
  rates = _momenta(world.net, momentum) if source == 'running' else {}
  facts = inspect.running(world.net) if rates else {}
  unbiased = {path for path, known in facts.items() if known.unbiased}
  paths = _paths(world.net, source, batch_norms, rates)
  if source == 'running':
    _require_one_batch(world.client)

  taps = tuple(f'{path}.input' for path in paths)

  def statistics(inputs: Mapping[str, types.Array]) -> dict[str, Moments]:
    """Returns the statistics of the tapped inputs, by path."""
    return {
      path: _moments(inputs[f'{path}.input'], path in batch_norms)
      for path in paths
    }

  def targets(obs, candidate):
    """Returns what the statistics should be, {path: (mean, variance)}."""
    if source == 'estimate':
      proxy = statistics(_proxy_inputs(world, taps, obs))
      return {path: proxy[path][:2] for path in paths}
    before = trees.named_leaves(obs.message.variables.stats)
    after = trees.named_leaves(obs.update.stats)
    if source == 'running':
      counts = {path: candidate[path].count for path in paths}
      return _of_the_batch(before, after, rates, counts, unbiased)
    buffers = before if source == 'before' else after
    return {p: (buffers[f'{p}.mean'], buffers[f'{p}.var']) for p in paths}

  def value(key, batch, aux, obs):
    del key, batch
    candidate = statistics(aux.taps)
    target = jax.lax.stop_gradient(targets(obs, candidate))
    parts = [
      _norm(a - b)
      for path in paths
      for a, b in zip(candidate[path][:2], target[path])
    ]
    return sum(parts, jnp.zeros(()))

  return base.Term(value, taps, needs)


def _batch_norms(net: models.Net) -> list[str]:
  """Returns the paths of the layers that keep running statistics."""
  stats = trees.named_leaves(inspect.abstract_variables(net).stats)
  return [name.removesuffix('.mean') for name in stats if name[-5:] == '.mean']


def _momenta(net: models.Net, momentum: float | None) -> dict[str, float]:
  """Returns the momentum of each BatchNorm layer, by path."""
  batch_norms = _batch_norms(net)
  if not batch_norms or momentum is not None:
    return dict.fromkeys(batch_norms, momentum)  # pyrefly: ignore
  # Frozen layers say nothing about the batch.
  return inspect.momenta(net)


def _paths(
  net: models.Net, source: str, batch_norms: list[str], rates: Iterable[str]
) -> list[str]:
  """Returns the paths of the layers whose inputs are compared."""
  rows = {'estimate': lambda: inspect.norms(net), 'running': lambda: [*rates]}
  paths = rows.get(source, lambda: batch_norms)()
  if not paths:
    kind = 'normalisation' if source == 'estimate' else 'BatchNorm'
    raise ValueError(
      f'Expected a network with {kind} layers for source={source!r}; got '
      f'{net.spec.name}; choose another attack'
    )
  return paths


def _require_one_batch(client: clients.Client) -> None:
  """Requires a client whose buffers reflect a single batch."""
  alone = client.local_steps == client.clients == 1
  if not (alone and client.train_mode):
    raise ValueError(
      "Expected one client of one local step in training mode for source='"
      f"running'; got clients={client.clients}, "
      f'local_steps={client.local_steps}, train_mode={client.train_mode}; use '
      "'after' or 'estimate'"
    )


def _proxy_inputs(world, taps, obs):
  """Returns what the layers read of the proxy batch, by tap."""
  output = world.net.apply(
    obs.message.variables,
    obs.side['proxy_data'],
    train=world.client.train_mode,
    taps=taps,
    key=jax.random.key(0),
  )
  return output.taps


def _of_the_batch(before, after, rates, counts, unbiased):
  """Returns the client's own statistics, from buffers by dotted name."""

  def own(name, m):
    return (after[name] - (1 - m) * before[name]) / m

  return {
    path: (
      own(f'{path}.mean', rates[path]),
      own(f'{path}.var', rates[path])
      * ((n - 1) / n if path in unbiased else 1),
    )
    for path, n in counts.items()
  }


def _moments(x: types.Array, per_channel: bool) -> Moments:
  axes = tuple(range(x.ndim - 1 if per_channel else x.ndim))
  mean = x.mean(axes)
  count = math.prod(x.shape[axis] for axis in axes)
  return Moments(mean, jnp.square(x - mean).mean(axes), count)


def _norm(difference: types.Array) -> types.Array:
  return trees.safe_sqrt(jnp.sum(jnp.square(difference)))
