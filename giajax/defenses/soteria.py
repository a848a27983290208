"""Soteria: the classifier's gradient is cut where the representation leaks.

Sun et al., Soteria: Provable Defense against Privacy Leakage in Federated
Learning from Representation Perspective, CVPR 2021, arXiv 2012.06043. In the
representation r of an image X, which is the classifier's input, the units with
the largest |r_i (dr_i/dX)^-1| are set to 0 where the gradient of the
classifier's kernel is formed: among all changes to that many units, these move
the image that belongs to them furthest from X. As in the authors' code
(github.com/jeremy313/Soteria), the inverse is computed as one over a norm, and
a batch is cut as a whole: rows of the kernel's gradient become 0 where

  s_i = sum over images of |dr_i/dX| / (|r_i| + 0.1)

is below its quantile. The code divides by r_i + 0.1, which is the same after a
ReLU.

The other layers are sent as they are. A server that leaves the classifier's
kernel out of the matching recovers the images from them: Balunovic et al.,
Bayesian Framework for Gradient Leakage, ICLR 2022, arXiv 2111.04706.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from giajax import keys
from giajax import require
from giajax import trees
from giajax import types
from giajax.clients import base as clients
from giajax.defenses import base
from giajax.models import inspect

_OFFSET = 0.1  # keeps a dead unit's ratio finite
_UNITS_AT_ONCE = 16  # units whose derivatives are computed together


def soteria(*, fraction: float) -> base.Defense:
  """Cuts a part of the representation out of the classifier's gradient.

  A server that knows the defence leaves the classifier's kernel out of the
  matching.

  Args:
    fraction: the part of the units that is cut, in [0, 1).

  Raises:
    ValueError: a fraction outside [0, 1). `on_client` and `on_belief` raise it
      for a network without a linear classifier, and the former for several
      local steps.
  """
  require.fraction(
    fraction, 'fraction', zero=True, one=False, advice='use 0 to cut nothing'
  )

  def on_client(client):
    require.one_step(client, 'soteria')
    head = inspect.head(client.net)
    tap, kernel = f'{head}.input', f'{head}.kernel'

    def update(key, message, batch, taps=()):
      own = keys.named(key, 'client')
      clean, output = client.update(own, message, batch, taps)

      def representation(x):
        output = client.net.apply(
          message.variables, x, train=client.train_mode, taps=(tap,), key=own
        )
        return output.taps[tap]

      score = harmlessness(representation, batch.x)
      mask = score >= jnp.quantile(score, fraction)
      leaves = trees.named_leaves(clean.delta)
      leaves[kernel] = leaves[kernel] * mask[:, None]
      return clean._replace(delta=trees.like(clean.delta, leaves)), output

    return clients.with_update(client, update)

  def on_belief(client):
    kernel = f'{inspect.head(client.net)}.kernel'
    return base.without(client, lambda name: name == kernel)

  return base.Defense(on_client=on_client, on_belief=on_belief)


def harmlessness(
  representation: Callable[[types.Array], types.Array], x: types.Array
) -> types.Array:
  """Returns s [F], how little each unit tells about the images.

  Args:
    representation: `x -> r [B, F]`, differentiable.
    x: [B, H, W, C] images.
  """
  r, derivative = jax.vjp(representation, x)

  def norms(unit):
    [slope] = derivative(jnp.zeros_like(r).at[:, unit].set(1.0))
    return jnp.sqrt(jnp.square(slope).sum(axis=(1, 2, 3)))

  units = jnp.arange(r.shape[1])
  each = jax.lax.map(norms, units, batch_size=_UNITS_AT_ONCE)
  return (each.T / (jnp.abs(r) + _OFFSET)).sum(axis=0)
