"""Generator: pure functions from latents to images, a composition of stages.

A generator is applied stage by stage, so that an attack may optimise its
latents, its weights, or the features between two of its stages:

  apply(v, z)  =  apply(v, apply(v, z, stop=k), start=k)

Generators are artefacts: they are loaded from files, or untrained, and never
trained inside an attack. An attack differentiates them once.
"""

from collections.abc import Callable, Mapping
import json
import os
import types as builtins
from typing import Any, NamedTuple, Protocol

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from giajax import archives
from giajax import files
from giajax import require
from giajax import types
from giajax.models import convert
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models.parts import pools
from giajax.tasks import classification

# The largest number of channels, latent numbers and classes, and the sides of
# the images that the first stage of a generator makes.
_MOST = 65_536
_SIDES = range(4, 8)
_RECORD = 'provenance'  # the array of a file that holds the record, [n] uint8


class Spec(NamedTuple):
  """The static facts about a generator.

  Attributes:
    name: the name of the generator.
    latent_shape: the shape of a latent.
    image_shape: (H, W, C).
    num_classes: K of the labels that it takes or makes, 0 for none.
    images: the number of images that each latent becomes.
    latents: 'normal' if draws from N(0, I) give samples, 'code' if latents come
      from an encoder, and 'update' if they are read off an update.
  """

  name: str
  latent_shape: tuple[int, ...]
  image_shape: tuple[int, int, int]
  num_classes: int = 0
  images: int = 1
  latents: str = 'normal'

  @property
  def samples(self) -> bool:
    """Whether draws from N(0, I) give samples."""
    return self.latents == 'normal'


class Output(NamedTuple):
  """What one pass through a generator, or through some stages, returns."""

  out: types.Array  # [M * images, H, W, C] in [0, 1], or features [M, ...]
  stats: types.Tree  # the running statistics after this pass


class ApplyFn(Protocol):
  """One pass through the stages `start` to `stop` of a generator."""

  def __call__(
    self,
    variables: types.Variables,
    h: types.Array,
    y: types.Array | None = None,
    *,
    train: bool = False,
    start: int = 0,
    stop: int | None = None,
  ) -> Output:
    """Returns images, or what the stage before `stop` gives.

    Args:
      variables: the variables of the generator.
      h: [M, *latent_shape] latents, or the features that stage `start` reads.
      y: [M] classes, or [M, K] their probabilities, of a generator that takes
        labels.
      train: whether BatchNorm uses the statistics of the M images, which then
        depend on each other, instead of the running ones.
      start: the number of the first stage.
      stop: the number of the stage before which to stop; None for images.

    Raises:
      ValueError: latents of another shape, labels that are missing, not taken
        or not those of M images, or stages that do not exist.
    """
    ...


class Generator(NamedTuple):
  """A generator as pure functions of its variables.

  Attributes:
    init: `(key) -> Variables`, untrained; the key is consumed.
    apply: see `ApplyFn`.
    spec: the static facts about the generator.
    stages: the names of the stages, in order.
    labels: `(variables, z [M, *latent_shape]) -> [M, K]`, the logits of the
      labels of a generator that makes labels as well; None for others.
  """

  init: Callable[[types.Array], types.Variables]
  apply: ApplyFn
  spec: Spec
  stages: tuple[str, ...]
  labels: Callable[[types.Variables, types.Array], types.Array] | None = None

  @property
  def takes_labels(self) -> bool:
    """Whether the images depend on labels that are given."""
    return bool(self.spec.num_classes) and self.labels is None


class Module(Protocol):
  """What a flax.nnx module provides for a Generator.

  A module that makes labels has a function `labels(z) -> [M, K]` as well.
  """

  def stages(
    self, y: types.Array | None
  ) -> Mapping[str, Callable[[types.Array], types.Array]]:
    """Returns the stages by name, in order; the last one gives images."""
    ...


class Trained(NamedTuple):
  """A generator with weights from a file.

  Attributes:
    generator: the generator.
    variables: its weights.
    sha256: of the file, 64 hex digits.
    record: how the weights were made, as the file says; {} if it does not.
  """

  generator: Generator
  variables: types.Variables
  sha256: str
  record: Mapping[str, Any] = builtins.MappingProxyType({})


def from_module(
  make: Callable[[nnx.Rngs], nnx.Module], spec: Spec, lowering: str = 'auto'
) -> Generator:
  """Returns the Generator of a flax.nnx module made of `models.layers`.

  Lowerings are made for second derivatives, and help with the first one where
  each restart has weights of its own: CI-Net's gradient to its weights takes
  2.3 ms by 'auto' and 3.8 by 'lax' on two CPU cores for one image of 32 x 32,
  and 7.7 against 15.9 for four restarts. It compiles two to three times as
  long. For gradients to latents alone, neither is faster by more than half.

  Args:
    make: a function `(rngs) -> module`; see `Module`.
    spec: the static facts about the generator.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: more parameters than JAX can number.
  """
  functions = from_nnx.pure(make, spec.name)
  names = tuple(functions.abstract.stages(None))
  makes_labels = hasattr(functions.abstract, 'labels')
  takes_labels = bool(spec.num_classes) and not makes_labels

  def apply(variables, h, y=None, *, train=False, start=0, stop=None):
    stop = len(names) if stop is None else stop
    _check_stages(start, stop, names, spec)
    if not start:
      _check_latents(h, spec)
    _check_labels(y, len(h), takes_labels, spec)

    def call(module):
      out = h
      for stage in [*module.stages(y).values()][start:stop]:
        out = stage(out)
      return out

    context = layers.Context(train, lowering)
    return Output(*functions.run(variables, context, call))

  def labels(variables, z):
    _check_latents(z, spec)
    context = layers.Context(lowering=lowering)
    return functions.run(variables, context, lambda module: module.labels(z))[0]

  return Generator(
    functions.init, apply, spec, names, labels if makes_labels else None
  )


def load(
  path: str | os.PathLike,
  generator: Generator,
  *,
  prefix: str = '',
  rename: Mapping[str, str] | None = None,
) -> Trained:
  """Returns a generator with the weights in a file, which is not unpickled.

  Args:
    path: an npz or .safetensors file of a torch state dict.
    generator: the architecture.
    prefix: as in `convert.load`, like `rename`.
    rename: leading parts of names, and what replaces them.

  Raises:
    ValueError: see `convert.load`; a file of another architecture or latent
      size, or with a NaN, among others.
  """
  spec = generator.spec
  sizes = f'latents {spec.latent_shape} and images {spec.image_shape}'
  described = spec._replace(name=f'{spec.name} with {sizes}')
  arrays = archives.read(path)
  record = _record(arrays.pop(_RECORD, None), path)
  variables = convert.load(
    path,
    generator._replace(spec=described),
    prefix=prefix,
    rename=rename,
    reader=lambda _: arrays,
  )
  return Trained(generator, variables, archives.sha256(path), record)


def provenance(record: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Returns what `load` finds again in a file of weights: their `record`.

  Args:
    record: how the weights were made: what JSON can say.
  """
  text = json.dumps(record, sort_keys=True).encode()
  return {_RECORD: np.frombuffer(text, np.uint8)}


def _record(array: np.ndarray | None, path) -> Mapping[str, Any]:
  if array is None:
    return {}
  try:
    record = files.parsed(np.asarray(array, np.uint8).tobytes())
  except (ValueError, TypeError) as error:
    raise ValueError(
      f'Expected a record of the training in {_RECORD!r} of path='
      f'{str(path)!r}; got something else ({error}); train the weights again'
    ) from error
  if not isinstance(record, dict):
    raise ValueError(
      f'Expected a record of the training in {_RECORD!r} of path='
      f'{str(path)!r}; got {type(record).__name__}; train the weights again'
    )
  return record


# What the modules of several generators share.


def in_turn(*parts: Callable) -> Callable[[types.Array], types.Array]:
  """Returns a stage that applies functions or modules one after another."""

  def stage(h):
    for part in parts:
      h = part(h)
    return h

  return stage


def as_pixel(z: types.Array) -> types.Array:
  """Maps latents [M, d] to images of one pixel [M, 1, 1, d]."""
  return z[:, None, None]


def doubled(x: types.Array) -> types.Array:
  """Maps [M, H, W, C] to [M, 2 H, 2 W, C] by repeating each pixel."""
  return pools.upsample(x, 2)


def half_tanh(x: types.Array) -> types.Array:
  """Maps to [0, 1] by tanh, whose own range is [-1, 1]."""
  return 0.5 + 0.5 * jnp.tanh(x)


# The last function of a generator, by name.
HEADS = {'sigmoid': jax.nn.sigmoid, 'tanh': half_tanh}


def sides(
  image_shape: tuple[int, int, int], who: str, *, least: int = 1
) -> list[int]:
  """Returns the sides of a generator's images from 4 to 7 on, each doubled.

  Args:
    image_shape: (H, W, C).
    who: the name of the generator, for the message.
    least: the smallest number of sides that it can have.

  Raises:
    ValueError: images that are not square, or of a side that is no multiple
      2^n of 4, 5, 6 or 7, or too small.
  """
  check_image_shape(image_shape, who)
  h, w, _ = image_shape
  halves = [h]
  while halves[0] > max(_SIDES) and not halves[0] % 2:
    halves.insert(0, halves[0] // 2)
  if h != w or halves[0] not in _SIDES or len(halves) < least:
    times = f'{least - 1} times or more' if least > 1 else 'any number of times'
    raise ValueError(
      f'Expected square images for {who} whose side is 4, 5, 6 or 7, doubled '
      f'{times}; got image_shape={tuple(image_shape)}; resize them to 32 x 32, '
      'for instance'
    )
  return halves


def begin(
  name: str, image_shape: tuple[int, int, int], latent: int, width: int
) -> tuple[Spec, list[int]]:
  """Returns a spec, and the sides of its images, at least two.

  Args:
    name: the name of the generator.
    image_shape: (H, W, C), see `sides`.
    latent: the number of latent numbers.
    width: a number of channels.

  Raises:
    ValueError: one of them is out of range.
  """
  check_width(latent, 'latent')
  check_width(width, 'width')
  doubled_sides = sides(image_shape, name, least=2)
  return Spec(name, (latent,), tuple(image_shape)), doubled_sides


def check_image_shape(image_shape: tuple[int, int, int], who: str) -> None:
  """Raises ValueError for what is no (H, W, C) of at least 1 each."""
  if len(image_shape) != 3 or min(image_shape) < 1:
    raise ValueError(
      f'Expected image_shape=(H, W, C), all of at least 1, for {who}; got '
      f'image_shape={tuple(image_shape)}; correct it'
    )


def check_width(value: int, name: str) -> None:
  """Raises ValueError for a number of channels or latent numbers."""
  require.whole(value, name, most=_MOST, advice='use 64')


def check_classes(num_classes: int) -> None:
  """Raises ValueError for a number of classes."""
  require.whole(num_classes, 'num_classes', least=2, most=_MOST)


def _check_stages(start, stop, names, spec):
  if not 0 <= start <= stop <= len(names):
    raise ValueError(
      f'Expected 0 <= start <= stop <= {len(names)}, the number of stages of '
      f'{spec.name}; got start={start}, stop={stop}; correct them'
    )


def _check_latents(z, spec):
  if z.shape[1:] != spec.latent_shape:
    raise ValueError(
      f'Expected latents [M, ...] of shape {spec.latent_shape} for '
      f'{spec.name}; got shape={z.shape}; build the generator with their size'
    )


def _check_labels(y, count, takes_labels, spec):
  if (y is not None) != takes_labels:
    expected = 'labels' if takes_labels else 'no labels'
    advice = 'give one each' if takes_labels else 'leave them out'
    raise ValueError(
      f'Expected {expected} for the images of {spec.name}; got '
      f'y={"None" if y is None else jnp.shape(y)}; {advice}'
    )
  if y is not None:
    classification.classification(spec.num_classes).check(y, count)
