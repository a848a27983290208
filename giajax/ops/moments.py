"""Inner products of weight gradients, without forming the gradients.

Cosine-like distances between the gradient g of a candidate and the observed
gradient t need three numbers per parameter tensor: <g, t>, |g|^2 and |t|^2. For
a layer y = P @ W with input rows P [T, d] and output cotangents D [T, p],

  <g, t> = sum((P @ t) * D)            t is shared by all restarts
  |g|^2  = sum((P @ P') * (D @ D'))    the Gram form, T^2 (d + p) products
         = |P' @ D|^2                  the explicit form, T d p products

so no restart has to carry arrays of the size of the weights, and every large
matmul has a right-hand side that all restarts share. The cheaper of the two
forms is chosen layer by layer from the shapes.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp

from giajax import trees
from giajax import types
from giajax.ops import convolution
from giajax.ops import fusion_barrier
from giajax.ops import geometries
from giajax.ops import patches


class Moments(NamedTuple):
  """Per-parameter moments of a candidate's and the observed gradient.

  Sum them behind a `fusion_barrier`, as `attacks.distances` does: on a CPU, XLA
  adds a sum of hundreds of scalars up again for every element that its
  derivative reaches, and most of a step's time goes there.
  """

  dot: dict[str, types.Array]  # <g, t>, [] float32 by dotted name
  squared: dict[str, types.Array]  # |g|^2
  target: dict[str, types.Array]  # |t|^2


class Site(NamedTuple):
  """The input and the geometry of a layer with parameters in one pass.

  Attributes:
    kind: 'conv', 'linear', 'scale' or 'value'; 'other' for a parameter that is
      read in another way.
    input: what the layer multiplied with its weight, or the value.
    geometry: the geometry of a convolution.
    lowering: the name of its lowering.
    names: the dotted names of its leaves, by 'kernel', 'bias', 'scale' and
      'value'; empty if these are their last parts, after the layer's path.
    layout: maps its kernel to [kh, kw, C / groups, P] or [C, P]; None if it
      lies so.
    why: for 'other', how the parameter is read.
  """

  kind: str
  input: types.Array
  geometry: geometries.Geometry = geometries.Geometry()
  lowering: str = 'auto'
  names: Mapping[str, str] = MappingProxyType({})
  layout: Callable[[types.Array], types.Array] | None = None
  why: str = ''


class Pair(NamedTuple):
  """The moments of one leaf whose gradient is not formed."""

  dot: types.Array
  squared: types.Array


def site_parts(
  site: Site, cotangent: types.Array, target: Mapping[str, types.Array]
) -> dict[str, Pair | types.Array]:
  """Returns the moments of a layer's leaves, or gradients if they are cheaper.

  Args:
    site: the layer's input and geometry.
    cotangent: the derivative of the loss with respect to the layer's output.
    target: the observed gradient of the trained leaves among 'kernel', 'bias',
      'scale' and 'value'.
  """
  makers = {
    'bias': lambda: _total(cotangent),
    'kernel': lambda: _kernel(site, cotangent, target['kernel']),
    'scale': lambda: _total(site.input * cotangent),
    'value': lambda: cotangent,
  }
  return {leaf: makers[leaf]() for leaf in target}


def _kernel(site, cotangent, target):
  make = _linear if site.kind == 'linear' else _conv
  if site.layout is None:
    return make(site, cotangent, target)
  part = make(site, cotangent, site.layout(target))
  if isinstance(part, Pair):
    return part
  return relaid_back(site.layout, part, target.shape)


def relaid_back(
  layout: Callable[[types.Array], types.Array],
  x: types.Array,
  shape: Sequence[int],
) -> types.Array:
  """Returns the array of a shape that a layout has moved to x.

  Args:
    layout: a function that moves the numbers of an array.
    x: what it has given.
    shape: the shape of the array.
  """
  (a,) = jax.linear_transpose(layout, jax.ShapeDtypeStruct(shape, x.dtype))(x)
  return a


def _conv(site, cotangent, target):
  kh, kw, channels, features = target.shape
  b, h, w, _ = cotangent.shape
  rows, taps = b * h * w, kh * kw * channels
  # The factor 1.5 is there because the Gram form also saves forming g twice in
  # the derivative.
  gram = rows * (taps + features) < 1.5 * taps * features
  if gram and site.geometry.groups == 1:
    unfolded = patches.unfold(site.input, (kh, kw), site.geometry)
    unfolded = unfolded.reshape(rows, taps)
    flat = cotangent.reshape(rows, features)
    dot = jnp.vdot(
      convolution.convolve(site.input, target, site.geometry, site.lowering),
      cotangent,
    )
    return Pair(dot, jnp.vdot(unfolded @ unfolded.T, flat @ flat.T))
  faces = convolution.faces(
    site.input.shape, target.shape, site.geometry, site.lowering, shared=False
  )
  return faces.to_kernel(site.input, cotangent)


def _linear(site, cotangent, target):
  x = site.input.reshape(-1, site.input.shape[-1])
  d = cotangent.reshape(-1, cotangent.shape[-1])
  if x.shape[0] * sum(target.shape) < 1.5 * target.size:
    return Pair(jnp.vdot(x @ target, d), jnp.vdot(x @ x.T, d @ d.T))
  return x.T @ d


def _total(x):
  return x.sum(axis=tuple(range(x.ndim - 1)))


def of_gradients(gradient: types.Tree, target: types.Tree) -> Moments:
  """Returns the moments of two explicit trees of one structure."""
  return of_parts(trees.named_leaves(gradient), target)


def of_parts(
  parts: Mapping[str, Pair | types.Array], target: types.Tree
) -> Moments:
  """Returns the moments of all leaves.

  Args:
    parts: the moments or the gradient of each leaf, by dotted name.
    target: the observed gradient.
  """
  t = trees.named_leaves(target)
  dot, squared, own = {}, {}, {}
  vectors: dict[int, dict[str, types.Array]] = {}
  for name, part in parts.items():
    if not isinstance(part, Pair):
      if part.ndim == 1:
        vectors.setdefault(part.size, {})[name] = part
        continue
      part = Pair(jnp.vdot(part, t[name]), jnp.vdot(part, part))
    dot[name], squared[name] = part
    own[name] = jnp.vdot(t[name], t[name])
  # XLA makes a kernel or two of each product, and a network has hundreds of
  # vectors: vectors of one length share a product.
  for leaves in vectors.values():
    g = fusion_barrier.fusion_barrier(jnp.stack(list(leaves.values())))
    other = jnp.stack([t[name] for name in leaves])
    dot |= zip(leaves, (g * other).sum(1))
    squared |= zip(leaves, (g * g).sum(1))
    own |= zip(leaves, (other * other).sum(1))
  return Moments(dot, squared, own)
