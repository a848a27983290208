"""Questions about a network's layers, answered without running it."""

import math

import jax
import jax.numpy as jnp

from giajax import trees
from giajax.models import base
from giajax.ops import moments


def sites(net: base.Net) -> dict[str, moments.Site]:
  """Returns the layers with parameters, in the order of a forward pass.

  Inputs are shapes of a batch of one image.

  Raises:
    ValueError: a network that cannot tell its layers.
  """
  if net.probe is None:
    raise ValueError(
      'Expected a network made of giajax layers; got '
      f'{net.spec.name}, which cannot tell its layers; build it by from_nnx'
    )
  found: dict[str, moments.Site] = {}

  def visit(variables, x):
    found.update(net.probe(variables, x, None)[1])

  x = jax.ShapeDtypeStruct((1, *net.spec.image_shape), jnp.float32)
  jax.eval_shape(visit, abstract_variables(net), x)
  return found


def abstract_variables(net: base.Net):
  """Returns the shapes of a network's variables."""
  return jax.eval_shape(net.init, jax.random.key(0))


def leaf_names(net: base.Net) -> frozenset[str]:
  """Returns the dotted names of the parameters that a client trains."""
  return frozenset(trees.named_leaves(abstract_variables(net).params))


def in_order(net: base.Net) -> list[str]:
  """Returns the names of `leaf_names` from the first layer to the last.

  Raises:
    ValueError: a network that cannot tell its layers.
  """
  layers = [*sites(net)]
  within = ['kernel', 'scale', 'value', 'bias']

  def place(name):
    path, _, leaf = name.rpartition('.')
    return layers.index(path), within.index(leaf)

  return sorted(leaf_names(net), key=place)


def head(net: base.Net) -> str:
  """Returns the path of the last linear layer, the classifier.

  Raises:
    ValueError: a network without one, or whose client does not train it.
  """
  path = _last_linear(net)
  if path is None:
    raise ValueError(
      f'Expected a network with a linear classifier; got {net.spec.name}; '
      'choose a label rule or an attack that does not read it'
    )
  if f'{path}.kernel' not in leaf_names(net):
    raise ValueError(
      f'Expected an update that covers the classifier {path!r}; got one '
      'where it is frozen; choose an attack that does not read it'
    )
  return path


def features(net: base.Net) -> str | None:
  """Returns the tap of what the classifier reads, trained or frozen.

  None for a network that cannot tell its layers, or has no linear classifier.
  """
  path = None if net.probe is None else _last_linear(net)
  return None if path is None else f'{path}.input'


def has_bias(net: base.Net, path: str) -> bool:
  """Says whether a layer has a bias."""
  return f'{path}.bias' in leaf_names(net)


def has_batch_norm(net: base.Net) -> bool:
  """Says whether a network keeps running statistics."""
  return bool(jax.tree.leaves(abstract_variables(net).stats))


def norms(net: base.Net) -> list[str]:
  """Returns the paths of the normalisation layers, in a pass's order.

  `net.apply(..., taps=[f'{path}.input' for path in norms(net)])` gives what
  each of them normalises.
  """
  return [path for path, site in sites(net).items() if site.kind == 'scale']


def first_linear(net: base.Net) -> str:
  """Returns the path of a first layer that is linear, with a bias.

  Raises:
    ValueError: a network that does not begin with one.
  """
  path, site = next(iter(sites(net).items()))
  pixels = math.prod(net.spec.image_shape)
  if (
    site.kind != 'linear'
    or site.input.shape[-1] != pixels
    or not {f'{path}.kernel', f'{path}.bias'} <= leaf_names(net)
  ):
    raise ValueError(
      'Expected a network whose first layer is linear over all pixels, with a '
      f'bias; got {net.spec.name}, which begins with {path!r}; use mlp'
    )
  return path


def _last_linear(net: base.Net) -> str | None:
  """The last linear layer that is no low-rank adapter of another."""
  linear = [
    path
    for path, site in sites(net).items()
    if site.kind == 'linear' and '.lora_' not in path
  ]
  return linear[-1] if linear else None
