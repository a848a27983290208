"""Layers with torch's semantics, and the context that a forward pass runs in.

Parameters are called `kernel`, `bias` and `scale` and laid out as flax does
(HWIO, [in, out]); modules carry torch's attribute names, so that a state dict
maps by one rule (`convert`). A pass is functional: layers read the bound
`Context` and write what they computed into it; no module state changes.
"""

from collections.abc import Callable, Mapping
import functools
import math
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp

from giajax import types
from giajax.ops import convolution
from giajax.ops import forms
from giajax.ops import moments

# By torch's names and definitions.
ACTIVATIONS = {
  'elu': jax.nn.elu,
  'gelu': functools.partial(jax.nn.gelu, approximate=False),
  'relu': jax.nn.relu,
  'sigmoid': jax.nn.sigmoid,
  'silu': jax.nn.silu,
  'softplus': jax.nn.softplus,
  'tanh': jnp.tanh,
}


class Context:
  """What one forward pass is asked for, and what it leaves behind.

  Attributes:
    train: BatchNorm uses, and reports, the statistics of the batch.
    lowering: name of the convolution lowering, or 'auto'.
    taps: names of the layers whose outputs ('fc') or inputs ('fc.input') are
      wanted.
    offsets: zeros to be added to the outputs of layers with parameters, by
      layer; the loss's derivative to them is the layer's output cotangent.
    stats: new running statistics by layer, filled by the pass.
    tapped: the activations in `taps`, filled by the pass.
    sites: where each layer with parameters met its input.
    outputs: the output of each layer with parameters.
  """

  def __init__(
    self,
    train: bool = False,
    lowering: str = 'auto',
    taps: tuple[str, ...] = (),
    offsets: Mapping[str, types.Array] | None = None,
  ):
    self.train = train
    self.lowering = lowering
    self.taps = taps
    self.offsets = offsets
    self.stats: dict[str, dict[str, types.Array]] = {}
    self.tapped: dict[str, types.Array] = {}
    self.sites: dict[str, moments.Site] = {}
    self.outputs: dict[str, types.Array] = {}

  def record(
    self,
    layer: 'Layer',
    x: types.Array,
    y: types.Array,
    site: moments.Site | None = None,
  ) -> types.Array:
    """Notes that `layer` mapped x to y; returns y, offset where asked."""
    path = layer.path
    if site is not None:
      if path in self.sites:
        raise ValueError(
          f'Expected each layer once in a forward pass; got {path!r} twice; '
          "use matching='explicit'"
        )
      self.sites[path] = site
      self.outputs[path] = y
      if self.offsets is not None:
        y = y + self.offsets[path]
    if path in self.taps:
      self.tapped[path] = y
    if f'{path}.input' in self.taps:
      self.tapped[f'{path}.input'] = x
    return y


class Layer(nnx.Module):
  """A module that records its passes in the context it is bound to."""

  path: str = ''
  context: Any = Context()


def bind(model: nnx.Module, context: Context) -> None:
  """Gives every layer of a model its dotted path and the pass's context."""
  for path, module in nnx.iter_modules(model):
    if isinstance(module, Layer):
      module.path = '.'.join(map(str, path))
      module.context = context


class Conv(Layer):
  """torch.nn.Conv2d on NHWC images, with torch's default initialisation.

  Args:
    inputs: channels in.
    outputs: channels out.
    size: kernel side.
    stride: in both directions.
    padding: zeros on every side.
    bias: whether to add one.
    groups: blocks of channels that do not mix.
    init: kernel initialiser `(key, shape) -> array`; torch's default if None.
    rngs: source of the initial weights.
  """

  def __init__(
    self,
    inputs: int,
    outputs: int,
    size: int,
    stride: int = 1,
    padding: int = 0,
    *,
    bias: bool = True,
    groups: int = 1,
    init: Callable[..., types.Array] | None = None,
    rngs: nnx.Rngs,
  ):
    shape = (size, size, inputs // groups, outputs)
    fan_in = math.prod(shape[:3])
    self.kernel = nnx.Param((init or uniform(fan_in))(rngs.params(), shape))
    self.bias = (
      nnx.Param(uniform(fan_in)(rngs.params(), (outputs,))) if bias else None
    )
    self.geometry = forms.Geometry(
      (stride, stride), ((padding, padding), (padding, padding)), groups
    )

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, C] to [B, H', W', P]."""
    lowering = self.context.lowering
    y = convolution.convolve(x, self.kernel[...], self.geometry, lowering)
    if self.bias is not None:
      y = y + self.bias[...]
    site = moments.Site('conv', x, self.geometry, lowering)
    return self.context.record(self, x, y, site)


class Linear(Layer):
  """torch.nn.Linear, with torch's default initialisation."""

  def __init__(
    self,
    inputs: int,
    outputs: int,
    *,
    bias: bool = True,
    init: Callable[..., types.Array] | None = None,
    rngs: nnx.Rngs,
  ):
    init = init or uniform(inputs)
    self.kernel = nnx.Param(init(rngs.params(), (inputs, outputs)))
    self.bias = (
      nnx.Param(uniform(inputs)(rngs.params(), (outputs,))) if bias else None
    )

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [..., inputs] to [..., outputs]."""
    y = x @ self.kernel[...]
    if self.bias is not None:
      y = y + self.bias[...]
    return self.context.record(self, x, y, moments.Site('linear', x))


class BatchNorm(Layer):
  """torch.nn.BatchNorm2d: unbiased running variance, momentum of the new.

  A training pass normalises by the batch's mean and biased variance and moves
  the running statistics by `momentum` towards its mean and unbiased variance.
  With a single value per channel the output would not depend on the input;
  as in torch, such a pass is a ValueError (raised while tracing, as shapes are
  static), not an update that leaks nothing.

  Args:
    features: channels.
    momentum: weight of the batch in the new running statistics.
    epsilon: added to the variance.
    rngs: unused, as the layer starts from constants.
  """

  def __init__(
    self,
    features: int,
    *,
    momentum: float = 0.1,
    epsilon: float = 1e-5,
    rngs: nnx.Rngs,
  ):
    del rngs
    self.scale = nnx.Param(jnp.ones(features))
    self.bias = nnx.Param(jnp.zeros(features))
    self.mean = nnx.BatchStat(jnp.zeros(features))
    self.var = nnx.BatchStat(jnp.ones(features))
    self.momentum = momentum
    self.epsilon = epsilon

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, C] to the same shape."""
    mean, var = self.mean[...], self.var[...]
    if self.context.train:
      mean, var = self._batch_statistics(x, mean, var)
    normal = (x - mean) * jax.lax.rsqrt(var + self.epsilon)
    y = normal * self.scale[...] + self.bias[...]
    return self.context.record(self, x, y, moments.Site('scale', normal))

  def _batch_statistics(self, x, running_mean, running_var):
    n, m = x.size // x.shape[-1], self.momentum
    if n < 2:
      raise ValueError(
        'Expected more than 1 value per channel for the batch statistics; got '
        f'shape={x.shape} at {self.path!r}; use a larger batch, larger images '
        'or train=False'
      )
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    var = jnp.square(x - mean).mean(axes)
    self.context.stats[self.path] = {
      'mean': (1 - m) * running_mean + m * mean,
      'var': (1 - m) * running_var + m * var * (n / (n - 1)),
    }
    return mean, var


def uniform(fan_in: int) -> Callable[..., types.Array]:
  """Returns torch's default initialiser, U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
  return symmetric(fan_in**-0.5)


def symmetric(bound: float) -> Callable[..., types.Array]:
  """Returns an initialiser that draws from U(-bound, bound)."""
  return lambda key, shape: jax.random.uniform(
    key, shape, minval=-bound, maxval=bound
  )


def he_normal_fan_out(key: types.Array, shape: tuple[int, ...]) -> types.Array:
  """Torch's kaiming_normal_(mode='fan_out', nonlinearity='relu')."""
  fan_out = math.prod(shape) // shape[-2]
  return jax.random.normal(key, shape) * math.sqrt(2 / fan_out)


def max_pool(
  x: types.Array, size: int, stride: int, padding: int = 0
) -> types.Array:
  """torch.nn.MaxPool2d on [B, H, W, C]."""
  return nnx.max_pool(
    x, (size, size), (stride, stride), [(padding, padding)] * 2
  )


def global_average_pool(x: types.Array) -> types.Array:
  """Maps [B, H, W, C] to [B, C]."""
  return x.mean(axis=(1, 2))


def flatten(x: types.Array) -> types.Array:
  """Maps [B, H, W, C] to [B, C*H*W] in torch's order, channels first."""
  return jnp.moveaxis(x, -1, 1).reshape(x.shape[0], -1)
