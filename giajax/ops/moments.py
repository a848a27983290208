"""Inner products of weight gradients, without forming the gradients.

Cosine-like distances between the gradient g of a candidate and the observed
gradient t need three numbers a parameter tensor: <g, t>, |g|^2 and |t|^2. For
a layer y = P @ W with input rows P [T, d] and output cotangents D [T, p],

  <g, t> = sum((P @ t) * D)            t is shared by all restarts
  |g|^2  = sum((P @ P') * (D @ D'))    the Gram form, T^2 (d + p) products
         = |P' @ D|^2                  the explicit form, T d p products

so no restart has to carry arrays of the size of the weights, and every large
matmul has a right-hand side that all restarts share. The cheaper of the two
forms is chosen layer by layer from the shapes.
"""

from typing import NamedTuple

import jax.numpy as jnp

from giajax import trees
from giajax import types
from giajax.ops import convolution
from giajax.ops import forms


class Moments(NamedTuple):
  """Per-parameter moments of a candidate's and the observed gradient."""

  dot: dict[str, types.Array]  # <g, t>, [] float32 by dotted name
  squared: dict[str, types.Array]  # |g|^2
  target: dict[str, types.Array]  # |t|^2


class Site(NamedTuple):
  """Where a layer with parameters met its input in one forward pass."""

  kind: str  # 'conv', 'linear', 'scale' or 'value'
  input: types.Array  # what the layer multiplied with its weight, or the value
  geometry: forms.Geometry = forms.Geometry()
  lowering: str = 'auto'


def site_moments(
  site: Site, cotangent: types.Array, target: dict[str, types.Array]
) -> dict[str, tuple[types.Array, types.Array]]:
  """Returns `{leaf: (<g, t>, |g|^2)}` of one layer.

  Args:
    site: the layer's input and geometry.
    cotangent: the loss's derivative to the layer's output.
    target: the observed gradient of the layer's leaves ('kernel', 'bias',
      'scale', 'value').
  """
  out = {}
  if 'bias' in target:
    out['bias'] = _explicit(_total(cotangent), target['bias'])
  if site.kind == 'scale':
    out['scale'] = _explicit(_total(site.input * cotangent), target['scale'])
  elif site.kind == 'value':  # the cotangent is the gradient itself
    out['value'] = _explicit(cotangent, target['value'])
  elif site.kind == 'linear':
    out['kernel'] = _linear(site.input, cotangent, target['kernel'])
  else:
    out['kernel'] = _conv(site, cotangent, target['kernel'])
  return out


def _conv(site, cotangent, target):
  kh, kw, channels, features = target.shape
  b, h, w, _ = cotangent.shape
  rows, taps = b * h * w, kh * kw * channels
  # The Gram form also saves forming g twice in the derivative, hence the 1.5.
  gram = rows * (taps + features) < 1.5 * taps * features
  if gram and site.geometry.groups == 1:
    patches = convolution.patches(site.input, (kh, kw), site.geometry)
    patches = patches.reshape(rows, taps)
    flat = cotangent.reshape(rows, features)
    dot = jnp.vdot(
      convolution.convolve(site.input, target, site.geometry, site.lowering),
      cotangent,
    )
    return dot, jnp.vdot(patches @ patches.T, flat @ flat.T)
  faces = convolution.faces(
    site.input.shape, target.shape, site.geometry, site.lowering, shared=False
  )
  return _explicit(faces.to_kernel(site.input, cotangent), target)


def _linear(x, cotangent, target):
  x = x.reshape(-1, x.shape[-1])
  d = cotangent.reshape(-1, cotangent.shape[-1])
  if x.shape[0] * sum(target.shape) < 1.5 * target.size:
    return jnp.vdot(x @ target, d), jnp.vdot(x @ x.T, d @ d.T)
  return _explicit(x.T @ d, target)


def _explicit(g, target):
  return jnp.vdot(g, target), jnp.vdot(g, g)


def _total(x):
  return x.sum(axis=tuple(range(x.ndim - 1)))


def of_gradients(gradient: types.Tree, target: types.Tree) -> Moments:
  """Returns the moments of two explicit trees of one structure."""
  g, t = trees.named_leaves(gradient), trees.named_leaves(target)
  return Moments(
    {name: jnp.vdot(g[name], t[name]) for name in g},
    {name: jnp.vdot(g[name], g[name]) for name in g},
    {name: jnp.vdot(t[name], t[name]) for name in t},
  )
