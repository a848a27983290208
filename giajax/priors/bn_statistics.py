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
            values a channel, (after - (1 - m) before) / m, and the variance
            times (n - 1) / n, as buffers hold the unbiased one. Exact for one
            local step, in training mode.
  estimate  those of a proxy batch in the same mode, and also for LayerNorm and
            GroupNorm, by one mean and one variance a layer.

'running' and 'estimate' are of Valadi et al., Practical Feasibility of Gradient
Inversion Attacks in Federated Learning, 2025, arXiv 2508.19819.
"""

import math

import jax
import jax.numpy as jnp

from giajax import registry
from giajax import trees
from giajax import types
from giajax import world as worlds
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


def bn_statistics(
  world: worlds.World,
  *,
  source: str = 'running',
  momentum: float | None = None,
) -> base.Term:
  """The inputs of normalisation layers have known means and variances.

  Args:
    world: the attacker's picture of network and client.
    source: a name in `SOURCES`, of the targets.
    momentum: of every BatchNorm layer, for 'running', in (0, 1]; None for what
      the network says.

  Raises:
    ValueError: an unknown source, a momentum outside (0, 1], a network without
      the layers or, for 'running', one that cannot tell their momentum, an
      aggregate, a client of several local steps or one in inference mode.
  """
  net, client = world.net, world.client
  needs = registry.lookup(SOURCES, source, 'source')
  if momentum is not None and not 0 < momentum <= 1:
    raise ValueError(
      f"Expected momentum in (0, 1]; got momentum={momentum}; use the network's"
    )
  batch_norms = _batch_norms(net)
  paths, rates = batch_norms, {}
  if source == 'estimate':
    paths = inspect.norms(net)
  elif source == 'running' and batch_norms:
    # Layers that are frozen do not tell of the batch.
    told = momentum is not None
    rates = dict.fromkeys(paths, momentum) if told else inspect.momenta(net)
    paths = [*rates]
  if not paths:
    kind = 'normalisation' if source == 'estimate' else 'BatchNorm'
    raise ValueError(
      f'Expected a network with {kind} layers for source={source!r}; got '
      f'{net.spec.name}; choose another attack'
    )
  alone = client.local_steps == client.clients == 1
  if source == 'running' and not (alone and client.train_mode):
    raise ValueError(
      "Expected one client of one local step in training mode for source='"
      f"running'; got clients={client.clients}, "
      f'local_steps={client.local_steps}, train_mode={client.train_mode}; use '
      "'after' or 'estimate'"
    )
  taps = tuple(f'{path}.input' for path in paths)

  def statistics(tapped):
    """Returns {path: (mean, variance, values a channel)}."""
    return {
      path: _moments(tapped[f'{path}.input'], path in batch_norms)
      for path in paths
    }

  def targets(obs, found):
    if source == 'estimate':
      proxy = net.apply(
        obs.message.variables,
        obs.side['proxy_data'],
        train=client.train_mode,
        taps=taps,
        key=jax.random.key(0),
      )
      known = statistics(proxy.taps)
      return {path: known[path][:2] for path in paths}
    before = trees.named_leaves(obs.message.variables.stats)
    after = trees.named_leaves(obs.update.stats)
    if source != 'running':
      buffers = before if source == 'before' else after
      return {p: (buffers[f'{p}.mean'], buffers[f'{p}.var']) for p in paths}

    def own(path, name):
      old, new, m = before[name], after[name], rates[path]
      return (new - (1 - m) * old) / m

    return {
      path: (own(path, f'{path}.mean'), own(path, f'{path}.var') * (n - 1) / n)
      for path, (_, _, n) in found.items()
    }

  def value(key, batch, aux, obs):
    del key, batch
    found = statistics(aux.taps)
    wanted = jax.lax.stop_gradient(targets(obs, found))
    parts = [
      _norm(a - b)
      for path in paths
      for a, b in zip(found[path][:2], wanted[path])
    ]
    return sum(parts, jnp.zeros(()))

  return base.Term(value, taps, needs)


def _batch_norms(net: models.Net) -> list[str]:
  """Returns the paths of the layers that keep running statistics."""
  stats = trees.named_leaves(inspect.abstract_variables(net).stats)
  return [name.removesuffix('.mean') for name in stats if name[-5:] == '.mean']


def _moments(
  x: types.Array, per_channel: bool
) -> tuple[types.Array, types.Array, int]:
  axes = tuple(range(x.ndim - 1 if per_channel else x.ndim))
  mean = x.mean(axes)
  count = math.prod(x.shape[axis] for axis in axes)
  return mean, jnp.square(x - mean).mean(axes), count


def _norm(difference: types.Array) -> types.Array:
  return trees.safe_sqrt(jnp.sum(jnp.square(difference)))
