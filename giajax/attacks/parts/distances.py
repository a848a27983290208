"""Distances between the gradient of a candidate and the observed one.

A Distance takes two trees of one structure, candidate g and observed t, and
returns a scalar float32. Those that only depend on <g, t>, |g|^2 and |t|^2 of
each leaf also come as a function of these moments, and can then be matched
without forming g (`ops.moments`).
"""

from collections.abc import Callable, Sequence
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from giajax import registry
from giajax import require
from giajax import trees
from giajax import types
from giajax.ops import fusion_barrier
from giajax.ops import moments

_EPSILON = 1e-24  # on a squared norm; a norm below 1e-12 counts as 0
_ROUNDING = 1e-12  # a leaf of a smaller part of the squared norm is rounding


class Distance(NamedTuple):
  """A distance of two gradients.

  Attributes:
    on_gradients: `(candidate, observed) -> [] float32`, of trees.
    on_moments: the same from their moments; None if it has no such form.
  """

  on_gradients: Callable[[types.Tree, types.Tree], types.Array]
  on_moments: Callable[[moments.Moments], types.Array] | None = None


def lookup(distance: str | Distance) -> Distance:
  """Returns a Distance given by name or as itself.

  Its `on_gradients` raises ValueError, while it is traced, for trees whose
  leaves or shapes differ, because arrays of other shapes would broadcast.

  Raises:
    ValueError: an unknown name.
  """
  if not isinstance(distance, Distance):
    distance = registry.lookup(DISTANCES, distance, 'distance')
  unchecked = distance.on_gradients

  def on_gradients(g: types.Tree, t: types.Tree) -> types.Array:
    require_alike(g, t)
    return unchecked(g, t)

  return distance._replace(on_gradients=on_gradients)


def require_alike(candidate: types.Tree, observed: types.Tree) -> None:
  """Requires an observed gradient with the candidate's leaves and shapes.

  Args:
    candidate: the candidate's gradient, or the parameters that it belongs to.
    observed: what is to be matched.

  Raises:
    ValueError: their structures or shapes differ.
  """
  require.same_shapes(
    observed,
    candidate,
    'observed gradient',
    of="the candidate's",
    advice='give the gradient of the same parameters',
  )


def _l2(g: types.Tree, t: types.Tree) -> types.Array:
  """Half the squared Euclidean distance (Zhu et al. 2019, arXiv 1906.08935)."""
  return 0.5 * trees.squared_norm(jax.tree.map(jnp.subtract, g, t))


def _l2_and_norm(g: types.Tree, t: types.Tree) -> types.Array:
  """The squared Euclidean distance and the distance (Ren et al. 2022, GRNN).

  The second keeps a slope where the first has hardly any. It has no form of
  moments, whose rounding its root would enlarge.
  """
  squared = trees.squared_norm(jax.tree.map(jnp.subtract, g, t))
  return squared + trees.safe_sqrt(squared)


def _l2_of_moments(m: moments.Moments) -> types.Array:
  return 0.5 * (_sum(m.squared) - 2 * _sum(m.dot) + _sum(m.target))


def _layer_l2(g: types.Tree, t: types.Tree) -> types.Array:
  """Mean over the leaves of the squared distance (Li et al. 2022, GGL)."""
  return 2 * _l2(g, t) / len(jax.tree.leaves(g))


def _layer_l2_of_moments(m: moments.Moments) -> types.Array:
  return 2 * _l2_of_moments(m) / len(m.dot)


def _l1(g: types.Tree, t: types.Tree) -> types.Array:
  """Sum of absolute differences (Deng et al., TAG, 2021, arXiv 2103.06819)."""
  parts = jax.tree.map(lambda a, b: jnp.sum(trees.safe_abs(a - b)), g, t)
  return sum(jax.tree.leaves(parts), jnp.zeros(()))


def _cosine(m: moments.Moments) -> types.Array:
  """1 - cosine over all leaves (Geiping et al. 2020, arXiv 2003.14053)."""
  return 1 - _similarity(_sum(m.dot), _sum(m.squared), _sum(m.target))


def _layer_cosine(m: moments.Moments) -> types.Array:
  """Mean over the leaves of 1 - cosine; rounding errors count as 0.

  A leaf of rounding errors has less than 1e-6 of the whole observed norm, such
  as the bias of a convolution before a BatchNorm in training mode.
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


def _gaussian(m: moments.Moments) -> types.Array:
  """Mean over the leaves of 1 - exp(-|g - t|^2 / |t|^2).

  The Gaussian kernel of the difference of Wang et al., SAPAG, 2020, arXiv
  2009.06228, whose width follows the observed gradient; that the width is the
  norm of the leaf is ours. A leaf of rounding errors counts as 0, as above.
  """
  least = _ROUNDING * _sum(m.target)
  parts = []
  for n, target in m.target.items():
    squared = jnp.maximum(m.squared[n] - 2 * m.dot[n] + target, 0.0)
    ratio = squared / jnp.maximum(target, _EPSILON)
    # Written in this way, a NaN counts.
    parts.append(jnp.where(target <= least, 0.0, 1 - jnp.exp(-ratio)))
  return sum(parts, jnp.zeros(())) / len(parts)


def _similarity(dot, squared, target):
  # The product of two small norms would underflow in the derivative.
  return (
    dot / trees.safe_sqrt(squared, _EPSILON) / trees.safe_sqrt(target, _EPSILON)
  )


def _sum(parts: dict[str, types.Array]) -> types.Array:
  # Else XLA would add the leaves up again for every pixel that needs the sum.
  return fusion_barrier.fusion_barrier(sum(parts.values(), jnp.zeros(())))


def _of_moments(
  function: Callable[[moments.Moments], types.Array],
) -> Distance:
  def on_gradients(g: types.Tree, t: types.Tree) -> types.Array:
    return function(moments.of_gradients(g, t))

  return Distance(on_gradients, function)


# Weights of n leaves, from the first layer to the last.
_LEAF_WEIGHTS: dict[str, Callable[[int], list[float]]] = {
  'equal': lambda n: [1.0] * n,
  'linear': lambda n: [1 - i / n for i in range(n)],
  'exponential': lambda n: [math.exp(-i) for i in range(n)],
}


def on_leaves(
  distance: str | Distance,
  *,
  top: int = 0,
  weights: str = 'equal',
  order: Sequence[str] = (),
) -> Distance:
  """Returns a distance of some leaves, or of leaves of unequal weight.

  Options of the authors' code of Geiping et al. 2020 (arXiv 2003.14053). The
  products of each leaf are multiplied by its weight before they are summed.

  Args:
    distance: a distance that sums products over the leaves: cosine, l2 or
      angular.
    top: the number of leaves, those of largest observed norm, that count; 0 for
      all.
    weights: the weights of the leaves: 'equal', or falling from the first layer
      to the last, 'linear' from 1 to 1 / n or 'exponential' by a factor of e
      per leaf.
    order: the dotted names from the first layer to the last, for `weights`.

  Raises:
    ValueError: another distance, a negative `top` or unknown weights.
  """
  require.whole(top, 'top', least=0, advice='use 10, or 0 for all leaves')
  weights_of = registry.lookup(_LEAF_WEIGHTS, weights, 'leaf weights')
  chosen = lookup(distance)
  if not top and weights == 'equal':
    return chosen
  of_sums = chosen.on_moments
  summing = [DISTANCES[n].on_moments for n in ('cosine', 'l2', 'angular')]
  if of_sums is None or of_sums not in summing:
    raise ValueError(
      'Expected distance in (cosine, l2, angular) for top leaves or leaf '
      f'weights; got distance={distance!r}; use cosine'
    )
  fixed = dict(zip(order, weights_of(len(order))))

  def on_moments(m: moments.Moments) -> types.Array:
    factor = {n: fixed[n] if fixed else 1.0 for n in m.dot}
    if top:
      sizes = jnp.sort(jnp.stack([*m.target.values()]))
      least = sizes[max(0, len(factor) - top)]
      factor = {n: f * (m.target[n] >= least) for n, f in factor.items()}
    parts = [{n: factor[n] * v for n, v in part.items()} for part in m]
    return of_sums(moments.Moments(*parts))

  return _of_moments(on_moments)


def with_direction(
  distance: str | Distance, leaf: str, weight: float
) -> Distance:
  """Returns a distance plus that of the direction of one leaf alone.

  Args:
    distance: the distance of all leaves.
    leaf: the dotted name of a leaf.
    weight: the weight of 1 - cosine over that leaf.
  """
  chosen = lookup(distance)
  of_moments = chosen.on_moments

  def direction(m: moments.Moments) -> types.Array:
    return 1 - _similarity(m.dot[leaf], m.squared[leaf], m.target[leaf])

  if of_moments is not None:
    return _of_moments(lambda m: of_moments(m) + weight * direction(m))

  def on_gradients(g: types.Tree, t: types.Tree) -> types.Array:
    part = direction(moments.of_gradients(g, t))
    return chosen.on_gradients(g, t) + weight * part

  return Distance(on_gradients)


def on_entries(distance: str | Distance, fraction: float) -> Distance:
  """Returns a distance of the entries of largest observed size only.

  Args:
    distance: the distance of the entries that are kept; the others are 0 in
      both trees.
    fraction: the part of each leaf's entries that is kept, in (0, 1].

  Raises:
    ValueError: a fraction out of range.
  """
  require.fraction(fraction, 'fraction', advice='use 0.5')
  chosen = lookup(distance)

  def mask(leaf):
    size = jnp.abs(leaf).ravel()
    count = max(1, round(fraction * size.size))
    # A NaN is kept; otherwise it would go unnoticed.
    return ~(jnp.abs(leaf) < jnp.sort(size)[size.size - count])

  def on_gradients(g: types.Tree, t: types.Tree) -> types.Array:
    masks = jax.tree.map(mask, t)
    g, t = (jax.tree.map(jnp.multiply, tree, masks) for tree in (g, t))
    return chosen.on_gradients(g, t)

  return Distance(on_gradients)


DISTANCES = {
  'l2': Distance(_l2, _l2_of_moments),
  'l2_and_norm': Distance(_l2_and_norm),
  'layer_l2': Distance(_layer_l2, _layer_l2_of_moments),
  'l1': Distance(_l1),
  'cosine': _of_moments(_cosine),
  'layer_cosine': _of_moments(_layer_cosine),
  'angular': _of_moments(_angular),
  'gaussian': _of_moments(_gaussian),
}
