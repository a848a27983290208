"""What the mobile networks share: gates, widths and inverted residuals.

MobileNetV2 and V3 and the EfficientNets are rows of inverted residuals: a 1x1
convolution widens, a depthwise one mixes neighbours, a gate weighs channels,
and a 1x1 convolution narrows. Attribute names are torchvision's.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any

from flax import nnx
import jax.numpy as jnp

from giajax import registry
from giajax import types
from giajax.models import layers
from giajax.models.parts import initializers


def _pointwise(inputs, outputs, *, rngs):
  init = initializers.he_normal_fan_out
  return unbiased(layers.Conv(inputs, outputs, 1, init=init, rngs=rngs))


class SqueezeExcitation(nnx.Module):
  """A gate in [0, 1] per channel, computed from the channels' means.

  Hu, Shen and Sun, Squeeze-and-Excitation Networks, CVPR 2018,
  arXiv 1709.01507.
  """

  def __init__(
    self, channels, squeezed, activation, gate, *, conv=_pointwise, rngs
  ):
    self.fc1 = conv(channels, squeezed, rngs=rngs)
    self.fc2 = conv(squeezed, channels, rngs=rngs)
    self.activation, self.gate = activation, gate

  def __call__(self, x):
    """Maps [B, H, W, C] to the same shape."""
    y = self.fc1(x.mean((1, 2), keepdims=True))
    return x * self.gate(self.fc2(self.activation(y)))


def conv_norm(
  inputs: int,
  outputs: int,
  size: int,
  stride: int = 1,
  *,
  groups: int = 1,
  norm: Callable[..., nnx.Module],
  activation: Callable[..., types.Array] | None = None,
  rngs: nnx.Rngs,
) -> layers.Sequential:
  """Returns a convolution that keeps the size, a norm and an activation.

  Args:
    inputs: the number of channels in.
    outputs: the number of channels out.
    size: the side of the kernel, odd.
    stride: the stride in both directions.
    groups: the number of blocks of channels that do not mix.
    norm: the factory of the norm, `(features, *, rngs) -> module`.
    activation: the activation; the identity at the end of a block.
    rngs: the source of the initial weights.
  """
  conv = layers.Conv(
    inputs,
    outputs,
    size,
    stride,
    size // 2,
    bias=False,
    groups=groups,
    init=initializers.he_normal_fan_out,
    rngs=rngs,
  )
  return layers.Sequential(
    [conv, norm(outputs, rngs=rngs), *([activation] if activation else [])]
  )


def inverted(
  inputs: int,
  hidden: int,
  outputs: int,
  size: int,
  stride: int,
  gate: nnx.Module | None,
  *,
  norm: Callable[..., nnx.Module],
  activation: Callable[..., types.Array],
  rngs: nnx.Rngs,
) -> layers.Sequential:
  """Returns the residual branch of MobileNetV3 and of the EfficientNets.

  Args:
    inputs: the number of channels in.
    hidden: the number of channels between; if it equals `inputs`, nothing is
      widened.
    outputs: the number of channels out.
    size: the side of the depthwise kernel.
    stride: the stride of the depthwise convolution.
    gate: the gate after the depthwise convolution, or None.
    norm: the factory of the norm, `(features, *, rngs) -> module`.
    activation: the activation of the first two convolutions.
    rngs: the source of the initial weights.
  """
  make = functools.partial(conv_norm, norm=norm, rngs=rngs)
  act = {'activation': activation}
  widen = [make(inputs, hidden, 1, **act)] if hidden != inputs else []
  mix = make(hidden, hidden, size, stride, groups=hidden, **act)
  gates = [gate] if gate is not None else []
  return layers.Sequential([*widen, mix, *gates, make(hidden, outputs, 1)])


def unbiased(layer: layers.Conv | layers.Linear):
  """Returns the layer with its bias set to zero, as torchvision does."""
  if layer.bias is not None:
    layer.bias[...] = jnp.zeros_like(layer.bias[...])
  return layer


def divisible(width: float) -> int:
  """Returns the multiple of 8 nearest to a width, not below 90 % of it."""
  near = max(8, int(width + 4) // 8 * 8)
  return near + 8 if near < 0.9 * width else near


def activation(name: str) -> Callable[..., types.Array]:
  """Returns an activation of `layers`.

  Raises:
    ValueError: an unknown name.
  """
  return registry.lookup(layers.ACTIVATIONS, name, 'activation')


def leading(rows: Sequence[Any], depth: int | None) -> Sequence[Any]:
  """Returns the first `depth` rows, or all if None.

  Raises:
    ValueError: there are fewer rows, or the depth is below 1.
  """
  depth = len(rows) if depth is None else depth
  if not 1 <= depth <= len(rows):
    raise ValueError(
      f'Expected a depth of 1 to {len(rows)} blocks; got depth={depth}; leave '
      'it out for all'
    )
  return rows[:depth]


def require_factor(**factors: float) -> None:
  """Raises ValueError unless each factor is above zero."""
  for name, value in factors.items():
    if not value > 0:
      raise ValueError(
        f'Expected a factor above 0; got {name}={value}; use 1 for the '
        "paper's size"
      )
