"""Gradient share: how much of what an attack inverts comes from one image.

  s_i = |c_i| / sum_j |c_j|

with c_i what image i alone adds to the update that the attack inverts. For one
round that is g_i / B, the gradient of its own loss under the weights that the
client received, and the batch's update is the sum of all. Where an attack
merges several rounds, c_i is the derivative of its `merge` along the gradients
of image i in all of them: for a difference of two rounds, the difference of
its two gradients.

Only the layers below the classifier count: attacks use the classifier's own
gradients for other ends, and a merge that is not linear in them is linear in
all others. BatchNorm is in inference mode, and whatever else a client does is
left out: random layers, augmentation, local steps after the first, a defence.
An image that is isolated has a share of 1; each of B equal images has 1/B.

Wen et al., Fishing for User Data in Large-Batch Federated Learning via Gradient
Magnification, ICML 2022, arXiv 2202.00580, magnify it; the measure is ours.
Only somebody who has the images knows it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from giajax import trees
from giajax import types
from giajax.metrics import base
from giajax.metrics import gradient_similarity
from giajax.models import base as models
from giajax.models import inspect
from giajax.tasks import base as tasks


def gradient_share(
  net: models.Net,
  task: tasks.Task,
  merge: Callable[[base.History], types.Observation],
) -> Callable[[base.History, types.Tree, types.Batch], types.Array]:
  """Returns `(history, stats, batch) -> [B] shares, in [0, 1]`, compiled.

  `stats` are the buffers that the client received, which the history may not
  hold. The shares are NaN where nothing reaches the layers below.

  Args:
    net: the network that the client trains.
    task: the task, for its loss.
    merge: the `merge` of the attack.

  Raises:
    ValueError: a network without a linear classifier that the client trains.
  """
  head = inspect.head(net)

  whole = gradient_similarity.of_one_image(net, task)

  def gradient(variables, x, y):
    """Returns the gradient of an image, with zeros for the classifier."""
    gradients = whole(variables, x, y)
    above = {
      name: jnp.zeros_like(leaf)
      for name, leaf in trees.named_leaves(gradients).items()
      if not _is_below(name, head)
    }
    return trees.replaced(gradients, above)

  def merged(deltas, history):
    observations = tuple(
      obs._replace(update=obs.update._replace(delta=delta))
      for obs, delta in zip(history, deltas)
    )
    named = trees.named_leaves(merge(observations).update.delta)
    return {n: leaf for n, leaf in named.items() if _is_below(n, head)}

  @jax.jit
  def shares(history, stats, batch):
    deltas = tuple(obs.update.delta for obs in history)
    received = [obs.message.variables._replace(stats=stats) for obs in history]
    rounds = jax.tree.map(lambda *leaves: jnp.stack(leaves), *received)

    def norm(one):
      own = jax.lax.map(lambda variables: gradient(variables, *one), rounds)
      along = tuple(
        jax.tree.map(lambda g, n=n: g[n], own) for n in range(len(history))
      )
      _, part = jax.jvp(lambda d: merged(d, history), (deltas,), (along,))
      return jnp.sqrt(trees.squared_norm(part))

    # One after the other: a gradient is as large as the network.
    norms = jax.lax.map(norm, batch)
    return norms / norms.sum()

  return shares


def prepare(
  audited: base.Audited, asked: bool
) -> Callable[[base.History, types.Tree, types.Batch], np.ndarray]:
  """Share of one image in the gradient that the attack inverts.

  Raises:
    ValueError: an update that several clients share, a loss that is no mean of
      those of its images, or a network without a linear classifier that the
      client trains.
  """
  del asked
  base.require_additive(audited, 'gradient_share')
  if audited.clients > 1:
    raise ValueError(
      'Expected one client whose images share a gradient; got gradient_share='
      f'True with cases.clients={audited.clients}; leave gradient_share out'
    )
  shares = gradient_share(audited.net, audited.task, audited.merge)
  return lambda history, stats, batch: np.asarray(shares(history, stats, batch))


def _is_below(name: str, head: str) -> bool:
  return not name.startswith(f'{head}.')


SHARE = base.Metric(
  name='gradient_share',
  label='gradient share',
  unit='',
  form='.3f',
  meaning='The largest share that one image has in the gradient which the '
  'attack inverts: 1 for an image that was isolated.',
  source='After Wen et al., ICML 2022, arXiv:2202.00580, who magnify it',
  needs=('history', 'received_stats', 'batch'),
  prepare=prepare,
  about='batch',
  reduce=np.max,
)
