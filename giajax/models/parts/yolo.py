"""What detectors of YOLOv8's form share: convolutions, stages and the head.

A level is a map of the image at 1/8, 1/16 or 1/32 of its sides. The head of
each level has two towers, for the box and for the class of the object that a
cell is in; there is no anchor box and no objectness. A side of a box is a
distribution over 16 distances from the centre of the cell (Li et al.,
Generalized Focal Loss, NeurIPS 2020, arXiv 2006.04388).
"""

from collections.abc import Callable, Sequence
import functools
import math

from flax import nnx
import jax.numpy as jnp
import numpy as np

from giajax import types
from giajax.models import dimensions
from giajax.models import layers
from giajax.models.parts import blocks
from giajax.models.parts import initializers
from giajax.models.parts import norms
from giajax.models.parts import pools

STRIDES = (8, 16, 32)  # of the levels
BINS = 16  # of the distribution of a side's distance, in strides
_EPSILON, _MOMENTUM = 1e-3, 0.03  # of the norms
_BOX_BIAS = 1.0
# Objects that an image has before training, at each level.
_OBJECTS = 5


class ConvNorm(nnx.Module):
  """A convolution without bias that keeps the size, a norm, an activation.

  Args:
    inputs: the number of channels in.
    outputs: the number of channels out.
    size: the side of the kernel, odd.
    stride: the stride in both directions.
    norm: the factory of the norm, `(features, *, rngs) -> module`.
    activation: the activation.
    called: the attribute of the norm.
    rngs: the source of the initial weights, torch's default.
  """

  def __init__(
    self,
    inputs: int,
    outputs: int,
    size: int,
    stride: int = 1,
    *,
    norm: Callable[..., nnx.Module],
    activation: Callable[..., types.Array],
    called: str = 'bn',
    rngs: nnx.Rngs,
  ):
    self.conv = layers.Conv(
      inputs, outputs, size, stride, size // 2, bias=False, rngs=rngs
    )
    setattr(self, called, norm(outputs, rngs=rngs))
    self.activation, self.called = activation, called

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, inputs] to [B, H', W', outputs]."""
    return self.activation(getattr(self, self.called)(self.conv(x)))


class Bottleneck(nnx.Module):
  """Two 3x3 convolutions, plus their input or not."""

  def __init__(self, channels, skip, conv, *, rngs):
    self.cv1 = conv(channels, channels, 3, rngs=rngs)
    self.cv2 = conv(channels, channels, 3, rngs=rngs)
    self.skip = skip

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, C] to the same shape."""
    y = self.cv2(self.cv1(x))
    return layers.residual(x, y) if self.skip else y


class C2f(nnx.Module):
  """A stage of which half passes by, and every block is read at the end.

  It descends from Wang et al., CSPNet, CVPRW 2020, arXiv 1911.11929. Of twice
  `outputs // 2` channels, the second half goes through the bottlenecks one
  after another; both halves and what each bottleneck gives are joined.

  Args:
    inputs: the number of channels in.
    outputs: the number of channels out.
    depth: the number of bottlenecks.
    skip: whether bottlenecks add their input.
    conv: the factory of the convolutions, `ConvNorm` with its options.
    rngs: the source of the initial weights.
  """

  def __init__(
    self,
    inputs: int,
    outputs: int,
    depth: int,
    skip: bool,
    conv: Callable[..., nnx.Module],
    *,
    rngs: nnx.Rngs,
  ):
    hidden = outputs // 2
    self.cv1 = conv(inputs, 2 * hidden, 1, rngs=rngs)
    self.m = nnx.List(
      [Bottleneck(hidden, skip, conv, rngs=rngs) for _ in range(depth)]
    )
    self.cv2 = conv((2 + depth) * hidden, outputs, 1, rngs=rngs)

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, inputs] to [B, H, W, outputs]."""
    pieces = jnp.split(self.cv1(x), 2, axis=-1)
    for block in self.m:
      pieces.append(block(pieces[-1]))
    return self.cv2(jnp.concatenate(pieces, axis=-1))


class Head(nnx.Module):
  """The towers of all levels.

  Args:
    inputs: the number of channels of each level.
    classes: the number of classes K.
    conv: the factory of the convolutions, `ConvNorm` with its options.
    names: the attributes of the towers for boxes and for classes.
    side: the side of the image, in pixels, whose number of cells the biases of
      the classes begin with.
    rngs: the source of the initial weights.
  """

  def __init__(
    self,
    inputs: Sequence[int],
    classes: int,
    conv: Callable[..., nnx.Module],
    names: tuple[str, str],
    side: float,
    *,
    rngs: nnx.Rngs,
  ):
    first = inputs[0]
    tower = functools.partial(_tower, conv=conv, rngs=rngs)
    boxes = max(16, first // 4, 4 * BINS), 4 * BINS
    scores = max(first, min(classes, 100)), classes
    self.classes, self.names = classes, names
    for name in names:
      setattr(self, name, nnx.List())
    for channels, stride in zip(inputs, STRIDES, strict=True):
      bias = math.log(_OBJECTS / classes / (side / stride) ** 2)
      getattr(self, names[0]).append(tower(channels, *boxes, _BOX_BIAS))
      getattr(self, names[1]).append(tower(channels, *scores, bias))

  def __call__(self, *levels: types.Array) -> dict[str, types.Array]:
    """Maps levels [B, H / s, W / s, C] to logits of A cells.

    Returns:
      'boxes' [B, A, 4, 16], the distances to left, top, right and bottom, and
      'scores' [B, A, K]. Cells go by level, then by row.
    """
    boxes, scores = (getattr(self, name) for name in self.names)
    return {
      'boxes': _cells(boxes, levels, (4, BINS)),
      'scores': _cells(scores, levels, (self.classes,)),
    }


def _tower(inputs, hidden, outputs, bias, *, conv, rngs):
  """Returns two 3x3 convolutions, and one of 1x1 that has a bias."""
  last = layers.Conv(
    hidden, outputs, 1, bias_init=initializers.constant(bias), rngs=rngs
  )
  ends = conv(inputs, hidden, 3, rngs=rngs), conv(hidden, hidden, 3, rngs=rngs)
  return layers.Sequential([*ends, last])


def _cells(towers, levels, shape):
  """Returns what towers make of their levels, [B, A, *shape]."""
  parts = (
    tower(x).reshape(len(x), -1, *shape) for tower, x in zip(towers, levels)
  )
  return jnp.concatenate([*parts], axis=1)


def upsample(x: types.Array) -> types.Array:
  """Doubles both sides of [B, H, W, C] by repeating pixels."""
  return pools.upsample(x, 2)


def joined(*maps: types.Array) -> types.Array:
  """Returns the channels of maps [B, H, W, C] one after another."""
  return jnp.concatenate(maps, axis=-1)


def conv_norm(
  activation: str, norm: str = 'batch', called: str = 'bn'
) -> Callable[..., ConvNorm]:
  """Returns a factory of convolutions, `(inputs, outputs, size, stride)`.

  Args:
    activation: a name in `layers.ACTIVATIONS`.
    norm: a name in `norms.NORMS`; 'batch' has YOLO's epsilon and momentum.
    called: the attribute of the norm.

  Raises:
    ValueError: an unknown name.
  """
  make = norms.factory(norm, momentum=_MOMENTUM, epsilon=_EPSILON)
  act = blocks.activation(activation)
  return functools.partial(ConvNorm, norm=make, activation=act, called=called)


def constants(head: str) -> dict[str, np.ndarray]:
  """Returns what a state dict holds that nobody trains: the 16 distances.

  Args:
    head: the path of the head.
  """
  distances = np.arange(BINS, dtype=np.float32).reshape(1, BINS, 1, 1)
  return {f'{head}.dfl.conv.weight': distances}


def check(
  image_shape: tuple[int, int, int], side: float, **factors: float
) -> None:
  """Checks options that the detectors share.

  Args:
    image_shape: (H, W, C).
    side: the `prior_side` of the head.
    **factors: factors of widths or depths, by name.

  Raises:
    ValueError: a factor or a side that is not above 0, or images whose sides
      are no multiples of the largest stride.
  """
  blocks.require_factor(prior_side=side, **factors)
  dimensions.require_multiple(image_shape, STRIDES[-1])
