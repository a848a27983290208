"""Net: a model as pure functions, and how to make one.

Attacks never import flax: they see `init`, `apply` and, where the network can
tell its layer inputs, `probe`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import registry
from giajax import trees
from giajax import types

# Mean and standard deviation of RGB in [0, 1]; 'none' leaves [0, 1] as it is.
NORMALISATIONS = {
  'none': ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
  'half': ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
  'cifar10': ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
  'imagenet': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


# The attribute of a network's module that stands between its normalisation and
# its first layer, where somebody put one there.
FRONT = 'front'


class Spec(NamedTuple):
  """The static facts about a network."""

  name: str
  image_shape: tuple[int, int, int]  # H, W, C
  num_classes: int
  mean: tuple[float, ...]  # of the normalisation inside, per channel
  std: tuple[float, ...]


def make_spec(
  name: str,
  image_shape: tuple[int, int, int],
  num_classes: int,
  normalisation: str,
) -> Spec:
  """Returns the static facts of a network.

  Args:
    name: of the network.
    image_shape: (H, W, C).
    num_classes: size of the last layer.
    normalisation: a name in `NORMALISATIONS`. Images without three channels
      take the average over the table's in each of theirs.

  Raises:
    ValueError: a size below 1, or an unknown normalisation.
  """
  if len(image_shape) != 3 or min(image_shape) < 1 or num_classes < 1:
    raise ValueError(
      'Expected image_shape=(H, W, C) and num_classes, all at least 1; got '
      f'image_shape={image_shape}, num_classes={num_classes}; correct them'
    )
  table = registry.lookup(NORMALISATIONS, normalisation, 'normalisation')
  channels = image_shape[2]
  mean, std = (
    values if channels == 3 else (round(sum(values) / 3, 4),) * channels
    for values in table
  )
  return Spec(name, tuple(image_shape), num_classes, mean, std)


class Net(NamedTuple):
  """A network as pure functions of its variables.

  Attributes:
    init: `(key) -> Variables`; the key is consumed.
    apply: `(variables, x, *, train=False, taps=(), key=None) -> Output` for
      images x [B, H, W, C] in [0, 1]; the normalisation is inside. A training
      pass of a network with dropout needs a key, which is consumed.
    probe: `(variables, x, offsets, *, train=False, taps=(), key=None) ->
      (Output, sites, outputs)`, the same pass with `offsets` added to the
      outputs of the layers with parameters (None for none), or None where the
      network cannot tell its layers.
    spec: static facts.
    edit: `(change) -> Net`, the network after `change(module, rngs)` of its
      flax.nnx module, or None where there is no such module. The change may
      set `module.front`, which then maps normalised images to what the first
      layer reads.
    momenta: of the BatchNorm layers, by path, or None where the network cannot
      tell them.
  """

  init: Callable[[types.Array], types.Variables]
  apply: Callable[..., types.Output]
  probe: Callable[..., Any] | None
  spec: Spec
  edit: Callable[..., Any] | None = None
  momenta: Mapping[str, float] | None = None


def normalise(x: types.Array, spec: Spec) -> types.Array:
  """Maps images [..., C] in [0, 1] to the network's input space."""
  return (x - jnp.asarray(spec.mean)) / jnp.asarray(spec.std)


def whole(variables: types.Variables) -> types.Tree:
  """Returns all parameters, trained or not, as one tree."""
  if not variables.frozen:
    return variables.params
  parts = (variables.params, variables.frozen)
  merged = {k: v for part in parts for k, v in trees.named_leaves(part).items()}
  return trees.nested(merged)


def count(variables: types.Variables) -> int:
  """Returns the number of trained parameters."""
  return sum(int(np.prod(p.shape)) for p in jax.tree.leaves(variables.params))


def frozen_layers(variables: types.Variables) -> frozenset[str]:
  """Returns the paths of the layers of which nothing is trained."""
  return _layers(variables.frozen) - _layers(variables.params)


def _layers(params: types.Tree) -> frozenset[str]:
  """Returns the paths of the layers that have parameters in a tree."""
  return frozenset(n.rpartition('.')[0] for n in trees.named_leaves(params))


def no_taps(taps: Sequence[str], spec: Spec) -> None:
  """Raises a ValueError for taps of a network that cannot tell its layers."""
  if taps:
    raise ValueError(
      f'Expected a network made of giajax layers for taps; got {spec.name} '
      f'with taps={list(taps)}; leave taps empty'
    )
