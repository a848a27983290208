"""Pruning: most entries of each leaf of the update's delta are not sent.

Lin et al., Deep Gradient Compression, ICLR 2018, arXiv 1712.01887, keeps the
entries of largest magnitude; Zhu, Liu and Han, Deep Leakage from Gradients,
NeurIPS 2019, arXiv 1906.08935, section 5.2, propose it as a defence. The random
form keeps entries whatever their size. No residual is carried over to the next
round.
"""

import jax
import jax.numpy as jnp

from giajax import registry
from giajax import require
from giajax import types
from giajax.defenses import base


def pruning(*, keep: float, kind: str = 'top') -> base.Defense:
  """Sends a part of each leaf's entries and zeros for the others.

  A server that knows the defence prunes the candidate's delta in the same way.
  It does not know the draw of the random form and leaves the candidate as it is
  then.

  Args:
    keep: the part that is sent, in (0, 1]; at least one entry per leaf.
    kind: 'top' keeps the entries of largest magnitude, 'random' any entries.

  Raises:
    ValueError: a part outside (0, 1], or another kind.
  """
  rule = registry.lookup(_KINDS, kind, 'kind')
  require.fraction(keep, 'keep', advice='use 1 to send everything')

  def change(key, leaf):
    value = jax.lax.stop_gradient(rule(key, leaf.reshape(-1)))
    count = max(1, round(keep * leaf.size))
    least = jax.lax.top_k(value, count)[0][-1]
    return leaf * (value >= least).reshape(leaf.shape)

  on_client = base.on_leaves(change, 'pruning')
  if kind == 'random':
    return base.Defense(on_client=on_client)
  return base.Defense(on_client=on_client, on_belief=on_client)


def _top(key: types.Array, entries: types.Array) -> types.Array:
  del key
  return jnp.abs(entries)


def _random(key: types.Array, entries: types.Array) -> types.Array:
  return jax.random.uniform(key, entries.shape)


# The values by which entries are ranked.
_KINDS = {'random': _random, 'top': _top}
