"""The moments of a network's gradient, without forming the gradient."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from giajax import trees
from giajax import types
from giajax.models import base
from giajax.ops import moments


def gradient_moments(
  net: base.Net,
  loss_fn: Callable[[types.Output], types.Array],
  variables: types.Variables,
  x: types.Array,
  target: types.Tree,
  *,
  train: bool = False,
  taps: Sequence[str] = (),
  key: types.Array | None = None,
) -> tuple[moments.Moments, types.Output]:
  """Returns the moments of a loss's gradient with respect to all parameters.

  Args:
    net: a Net with a `probe`.
    loss_fn: `(output) -> [] loss`.
    variables: the variables of the network.
    x: [B, H, W, C] images in [0, 1].
    target: the gradient to compare with, like `variables.params`.
    train: whether BatchNorm uses the batch's statistics and dropout drops.
    taps: activations wanted in the Output, as in `Net.apply`.
    key: the key of the pass's random draws; consumed.
  """
  pass_kwargs = {'train': train, 'taps': taps, 'key': key}
  shapes = jax.eval_shape(
    lambda: net.probe(variables, x, None, **pass_kwargs)[2]  # pyrefly: ignore
  )
  offsets = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  sites = {}

  def loss(offsets):
    output, layers, _ = net.probe(  # pyrefly: ignore
      variables, x, offsets, **pass_kwargs
    )
    sites.update(layers)
    inputs = {path: site.input for path, site in layers.items()}
    return loss_fn(output), (output, inputs)

  cotangents, (output, inputs) = jax.grad(loss, has_aux=True)(offsets)
  owners = {
    name: (path, leaf)
    for path, site in sites.items()
    for leaf, name in site.names.items()
  }
  by_layer: dict[str, dict[str, str]] = {}
  parts, leaves = {}, trees.named_leaves(target)
  for name in leaves:
    path, leaf = owners.get(name, name.rpartition('.')[::2])
    if name in cotangents and leaf != 'kernel':
      parts[name] = cotangents[name]  # an offset of the leaf itself
    else:
      by_layer.setdefault(path, {})[leaf] = name
  for path, names in by_layer.items():
    site = sites[path]._replace(input=inputs[path])
    targets = {leaf: leaves[name] for leaf, name in names.items()}
    own = moments.site_parts(site, cotangents[path], targets)
    parts |= {names[leaf]: part for leaf, part in own.items()}
  return moments.of_parts(parts, target), output
