"""Distances between the gradient of a candidate and the observed one.

A Distance sees two trees of one structure, candidate g and observed t, and
returns a scalar float32. Those that only depend on <g, t>, |g|^2 and |t|^2 of
each leaf also come as a function of these moments, and can then be matched
without forming g (`ops.moments`).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from giajax import registry
from giajax import trees
from giajax import types
from giajax.ops import materialize
from giajax.ops import moments

_EPSILON = 1e-24  # of a squared norm; a norm below 1e-12 counts as none
_ROUNDING = 1e-12  # a leaf of a smaller part of the squared norm is rounding


class Distance(NamedTuple):
  """A distance, on gradients and, where it has that form, on moments."""

  on_gradients: Callable[[types.Tree, types.Tree], types.Array]
  on_moments: Callable[[moments.Moments], types.Array] | None = None


def lookup(distance: str | Distance) -> Distance:
  """Returns a Distance given by name or as itself.

  Raises:
    ValueError: an unknown name.
  """
  if isinstance(distance, Distance):
    return distance
  return registry.lookup(DISTANCES, distance, 'distance')


def _l2(g: types.Tree, t: types.Tree) -> types.Array:
  """Half the squared Euclidean distance (Zhu et al. 2019, arXiv 1906.08935)."""
  return 0.5 * trees.squared_norm(jax.tree.map(jnp.subtract, g, t))


def _l2_of_moments(m: moments.Moments) -> types.Array:
  return 0.5 * (_sum(m.squared) - 2 * _sum(m.dot) + _sum(m.target))


def _l1(g: types.Tree, t: types.Tree) -> types.Array:
  """Sum of absolute differences (Deng et al., TAG, 2021, arXiv 2103.06819)."""
  parts = jax.tree.map(lambda a, b: jnp.sum(trees.safe_abs(a - b)), g, t)
  return sum(jax.tree.leaves(parts), jnp.zeros(()))


def _cosine(m: moments.Moments) -> types.Array:
  """1 - cosine of all leaves together (Geiping et al. 2020, 2003.14053)."""
  return 1 - _similarity(_sum(m.dot), _sum(m.squared), _sum(m.target))


def _layer_cosine(m: moments.Moments) -> types.Array:
  """Mean over the leaves of 1 - cosine; a leaf of rounding errors counts 0.

  That is one observed with less than 1e-6 of the whole norm, such as the bias
  of a convolution before a BatchNorm in training mode.
  """
  least = _ROUNDING * _sum(m.target)
  parts = [
    jnp.where(
      m.target[n] > least,
      1 - _similarity(m.dot[n], m.squared[n], m.target[n]),
      0.0,
    )
    for n in m.dot
  ]
  return sum(parts, jnp.zeros(())) / len(parts)


def _angular(m: moments.Moments) -> types.Array:
  """The angle between all leaves together, in units of pi, in [0, 1]."""
  cosine = _similarity(_sum(m.dot), _sum(m.squared), _sum(m.target))
  # arccos has an infinite slope at 1.
  return jnp.arccos(jnp.clip(cosine, -1 + 1e-6, 1 - 1e-6)) / jnp.pi


def _similarity(dot, squared, target):
  # The product of two small norms would underflow in the derivative.
  return (
    dot / trees.safe_sqrt(squared, _EPSILON) / trees.safe_sqrt(target, _EPSILON)
  )


def _sum(parts: dict[str, types.Array]) -> types.Array:
  # Else XLA would add the leaves up again for every pixel that needs the sum.
  return materialize.materialize(sum(parts.values(), jnp.zeros(())))


def _of_moments(function: Callable[..., types.Array]) -> Distance:
  def on_gradients(g: types.Tree, t: types.Tree) -> types.Array:
    return function(moments.of_gradients(g, t))

  return Distance(on_gradients, function)


DISTANCES = {
  'l2': Distance(_l2, _l2_of_moments),
  'l1': Distance(_l1),
  'cosine': _of_moments(_cosine),
  'layer_cosine': _of_moments(_layer_cosine),
  'angular': _of_moments(_angular),
}
