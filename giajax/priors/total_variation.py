"""Total variation: neighbouring pixels are alike.

  TV(x) = mean over (B, H, W, C) of (|dx|^p + |dy|^p)^q

with forward differences of the normalised image, 0 beyond the border. p = 1,
q = 1 is the anisotropic form of Geiping et al., Inverting Gradients, NeurIPS
2020, arXiv 2003.14053; p = 2, q = 1/2 the isotropic form of Rudin, Osher and
Fatemi (1992). `double_opponents` adds the three colour differences as
channels, after Åström and Schnörr, Double-Opponent Vectorial Total Variation,
ECCV 2016.
"""

import jax.numpy as jnp

from giajax import require
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.models import base as models
from giajax.priors import base

# Keep the derivatives of the inner and outer power finite where pixels agree.
_INNER = 1e-8
_OUTER = 1e-16


def total_variation(
  world: worlds.World,
  *,
  p: float = 1.0,
  q: float = 1.0,
  double_opponents: bool = False,
) -> base.Term:
  """Neighbouring pixels of the normalised image are alike.

  Args:
    world: the attacker's picture of the system, for the normalisation.
    p: the inner exponent, > 0.
    q: the outer exponent, > 0.
    double_opponents: whether the differences of colour channels count as well.

  Raises:
    ValueError: an exponent that is not positive, or `double_opponents` for
      images that do not have three channels.
  """
  spec = world.net.spec
  require.positive(p, 'p', advice='use 1')
  require.positive(q, 'q', advice='use 1')
  if double_opponents and spec.image_shape[-1] != 3:
    raise ValueError(
      'Expected images of 3 channels for double_opponents; got '
      f'image_shape={spec.image_shape}; leave it off'
    )

  def value(key, batch, aux, obs):
    del key, aux, obs
    x = models.normalise(batch.x, spec)
    if double_opponents:
      red, green, blue = x[..., :1], x[..., 1:2], x[..., 2:]
      x = jnp.concatenate([x, red - green, red - blue, green - blue], axis=-1)
    dx, dy = _difference(x, axis=2), _difference(x, axis=1)
    inner = _power(dx, p) + _power(dy, p)
    return jnp.mean(inner if q == 1 else (inner + _OUTER) ** q)

  return base.Term(value)


def _difference(x: types.Array, axis: int) -> types.Array:
  """Forward difference along an axis, 0 at the end."""
  last = [slice(None)] * x.ndim
  last[axis] = slice(-1, None)
  return jnp.diff(x, axis=axis, append=x[tuple(last)])


def _power(d: types.Array, p: float) -> types.Array:
  size = trees.safe_abs(d)
  return size if p == 1 else (size + _INNER) ** p
