"""Net: a model as pure functions of its variables.

Attacks never import flax: they see `init`, `apply` and, if the network can
report its layer inputs, `probe`.
"""

from collections.abc import Callable, Mapping, Sequence
import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from giajax import registry
from giajax import trees
from giajax import types
from giajax.ops import moments

# Mean and standard deviation of RGB in [0, 1]; 'none' leaves [0, 1] as it is.
NORMALISATIONS = {
  'none': ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
  'half': ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
  'cifar10': ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
  'imagenet': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


# The attribute of a network's module that holds what was put between its
# normalisation and its first layer.
FRONT = 'front'


class Spec(NamedTuple):
  """The static facts about a network."""

  name: str
  image_shape: tuple[int, int, int]  # H, W, C; 1, 1, F for rows of a table
  num_classes: int
  mean: tuple[float, ...]  # the normalisation inside, per channel
  std: tuple[float, ...]
  altered: bool = False  # it lacks or has a part, which helps some attack


def make_spec(
  name: str,
  image_shape: tuple[int, int, int],
  num_classes: int,
  normalisation: str,
) -> Spec:
  """Returns the static facts of a network.

  Args:
    name: the name of the network.
    image_shape: (H, W, C).
    num_classes: size of the last layer.
    normalisation: a name in `NORMALISATIONS`. Images whose number of channels
      is not three use the average of the three values for each channel.

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


class ApplyFn(Protocol):
  """One forward pass."""

  def __call__(
    self,
    variables: types.Variables,
    x: types.Array,
    *,
    train: bool = False,
    taps: Sequence[str] = (),
    key: types.Array | None = None,
  ) -> types.Output:
    """Returns logits, running statistics and activations.

    Args:
      variables: the variables of the network.
      x: [B, H, W, C] images in [0, 1]; the normalisation is inside.
      train: whether BatchNorm uses the batch's statistics and dropout drops
        units.
      taps: names of the activations that are wanted in the Output.
      key: the key of the pass's random draws, which a training pass of a
        network with dropout needs; consumed.

    Raises:
      ValueError: images of another shape than the network's, images of
        integers, a tap that names no layer, or a missing key.
    """
    ...


class ProbeFn(Protocol):
  """The same pass, with offsets added to the outputs of layers."""

  def __call__(
    self,
    variables: types.Variables,
    x: types.Array,
    offsets: Mapping[str, types.Array] | None,
    *,
    train: bool = False,
    taps: Sequence[str] = (),
    key: types.Array | None = None,
  ) -> tuple[types.Output, dict[str, moments.Site], dict[str, types.Array]]:
    """Returns the Output, and sites and outputs by layer path.

    Of a network that somebody else wrote, the outputs are those of layers with
    kernels, and all other parameters themselves, by name.

    Args:
      variables: as for `ApplyFn`, like `x`, `train`, `taps` and `key`.
      x: images.
      offsets: what is added to each of the outputs, by path or name; None for
        nothing.
      train: as for `ApplyFn`.
      taps: as for `ApplyFn`.
      key: as for `ApplyFn`.
    """
    ...


class EditFn(Protocol):
  """Changes to the module that a network is made of."""

  def __call__(self, change: Callable[[Any, Any], None]) -> 'Net':
    """Returns the network after a change of its flax.nnx module.

    Args:
      change: a function `(module, rngs)` that changes the module in place. It
        may set `module.front`, which then maps normalised images to what the
        first layer reads.
    """
    ...


class Initialised(Protocol):
  """What draws variables and says what it is: a Net, or a generator."""

  @property
  def init(self) -> Callable[[types.Array], types.Variables]:
    """`(key) -> Variables`; the key is consumed."""
    ...

  @property
  def spec(self) -> Any:
    """The static facts, `name` and `num_classes` among them."""
    ...


class Net(NamedTuple):
  """A network as pure functions of its variables.

  Attributes:
    init: `(key) -> Variables`; the key is consumed.
    apply: see `ApplyFn`.
    probe: see `ProbeFn`; None if the network cannot report its layers.
    spec: the static facts about the network.
    edit: see `EditFn`; None if there is no flax.nnx module, or if an edit would
      lose something.
    momenta: the momenta of the BatchNorm layers, by path, or None if they are
      to be measured, see `inspect.running`.
    names: the names of its torch state dict, in order and with counters, or
      None if there is no such dict.
    original: `(variables, x, train) -> logits [B, K]` as the library computes
      them that the network comes from, to compare with; None for others.
    constants: arrays by torch's names that a state dict of the network may
      hold, although they are no variables; None for none.
    untrained: the names of parameters that the library would not train where
      the network comes from; here they are trained like all others.
  """

  init: Callable[[types.Array], types.Variables]
  apply: ApplyFn
  probe: ProbeFn | None
  spec: Spec
  edit: EditFn | None = None
  momenta: Mapping[str, float] | None = None
  names: tuple[str, ...] | None = None
  original: Callable[[types.Variables, Any, bool], Any] | None = None
  constants: Mapping[str, np.ndarray] | None = None
  untrained: tuple[str, ...] = ()


def normalise(x: types.Array, spec: Spec) -> types.Array:
  """Maps images in [0, 1] to the network's input space.

  Args:
    x: [..., H, W, C] images of the network's shape.
    spec: the spec of the network.

  Raises:
    ValueError: images of another shape, or of integers.
  """
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise ValueError(
      'Expected images of floating-point numbers in [0, 1]; got '
      f'dtype={x.dtype}; divide bytes by 255'
    )
  if x.shape[-3:] != spec.image_shape:
    raise ValueError(
      f'Expected images [..., H, W, C] of shape {spec.image_shape} for '
      f'{spec.name}; got shape={x.shape}; build the network with their '
      'image_shape, or resize them'
    )
  return (x - jnp.asarray(spec.mean, x.dtype)) / jnp.asarray(spec.std, x.dtype)


def inputs(x: types.Array, spec: Spec) -> types.Array:
  """Returns what a network reads: normalised images, or rows [..., F].

  Args:
    x: as for `normalise`. Images of one pixel are rows of a table, whose
      columns are the channels.
    spec: the spec of the network.

  Raises:
    ValueError: see `normalise`.
  """
  x = normalise(x, spec)
  return x[..., 0, 0, :] if spec.image_shape[:2] == (1, 1) else x


def whole(variables: types.Variables) -> types.Tree:
  """Returns all parameters, trained or not, as one tree."""
  if not variables.frozen:
    return variables.params
  parts = (variables.params, variables.frozen)
  merged = {k: v for part in parts for k, v in trees.named_leaves(part).items()}
  return trees.nested(merged)


def count(variables: types.Variables) -> int:
  """Returns the number of trained parameters."""
  return sum(math.prod(p.shape) for p in jax.tree.leaves(variables.params))


def frozen_layers(variables: types.Variables) -> frozenset[str]:
  """Returns the paths of the layers none of whose parameters is trained."""
  return _layers(variables.frozen) - _layers(variables.params)


def _layers(params: types.Tree) -> frozenset[str]:
  """Returns the paths of the layers that have parameters in a tree."""
  return frozenset(n.rpartition('.')[0] for n in trees.named_leaves(params))
