"""Layers with torch's semantics, and the context that a forward pass runs in.

Parameters are called `kernel`, `bias` and `scale` and laid out as flax does
(HWIO, [in, out]); modules carry torch's attribute names, so that a state dict
maps by one rule (`convert`). A pass is functional: layers read the bound
`Context` and write what they computed into it; no module state changes.
"""

from collections.abc import Callable, Mapping
import functools
import math
from typing import Any, Protocol

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from giajax import keys
from giajax import types
from giajax.models.parts import initializers
from giajax.ops import convolution
from giajax.ops import fusion_barrier
from giajax.ops import geometries
from giajax.ops import moments

# By torch's names and definitions.
ACTIVATIONS = {
  'elu': jax.nn.elu,
  'gelu': functools.partial(jax.nn.gelu, approximate=False),
  'hardsigmoid': jax.nn.hard_sigmoid,
  'hardswish': jax.nn.hard_swish,
  'leaky_relu': jax.nn.leaky_relu,
  'relu': jax.nn.relu,
  'relu6': jax.nn.relu6,
  'sigmoid': jax.nn.sigmoid,
  'silu': jax.nn.silu,
  'softplus': jax.nn.softplus,
  'tanh': jnp.tanh,
}


class Placed(Protocol):
  """What a context records: a layer, or whatever stands for one."""

  @property
  def path(self) -> str:
    """The dotted path in the network."""
    ...


class Context:
  """What one forward pass is asked for, and what it records.

  Attributes:
    train: BatchNorm uses, and reports, the statistics of the batch.
    lowering: name of the convolution lowering, or 'auto'.
    taps: names of the layers whose outputs ('fc') or inputs ('fc.input') are
      wanted.
    offsets: zeros to be added to the outputs of layers with parameters, by
      layer; the loss's derivative to them is the layer's output cotangent.
    key: the key of the pass's random draws, or None.
    frozen: the layers none of whose parameters is trained; a BatchNorm among
      them stays in inference mode.
    stats: new running statistics by layer, filled by the pass.
    tapped: the activations in `taps`, filled by the pass.
    sites: the input and the geometry of each layer with parameters.
    outputs: the output of each layer with parameters.
    penalty: [] nats, what layers add to the mean loss.
    counts: how often random streams were drawn from before and after the pass.
    traced: whether the layers of flax are looked for in the trace of the pass,
      in which their convolutions stay as they are.
  """

  def __init__(
    self,
    train: bool = False,
    lowering: str = 'auto',
    taps: tuple[str, ...] = (),
    offsets: Mapping[str, types.Array] | None = None,
    key: types.Array | None = None,
    *,
    traced: bool = False,
  ):
    self.train = train
    self.lowering = lowering
    self.taps = taps
    self.offsets = offsets
    self.key = key
    self.traced = traced
    self.frozen: frozenset[str] = frozenset()
    self.stats: dict[str, dict[str, types.Array]] = {}
    self.tapped: dict[str, types.Array] = {}
    self.sites: dict[str, moments.Site] = {}
    self.outputs: dict[str, types.Array] = {}
    self.penalty: types.Array | np.float32 = np.float32(0)
    self.counts: tuple[list[types.Array], list[types.Array]] = ([], [])

  def record(
    self,
    layer: Placed,
    x: types.Array | None,
    y: types.Array,
    site: moments.Site | None = None,
  ) -> types.Array:
    """Records that `layer` mapped x to y; returns y with its offset added."""
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
    if f'{path}.input' in self.taps and x is not None:
      self.tapped[f'{path}.input'] = x
    return y

  def draw(self, layer: 'Layer') -> types.Array:
    """Returns the key of a layer's random draws in this pass.

    Raises:
      ValueError: the pass was given no key.
    """
    if self.key is None:
      raise ValueError(
        f'Expected a key for a training pass through {layer.path!r}, which '
        'draws random numbers; got key=None; pass one to apply, or build the '
        'network with rate 0'
      )
    return keys.named(self.key, layer.path)


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
    inputs: the number of channels in.
    outputs: the number of channels out.
    size: the side of the kernel.
    stride: the stride in both directions.
    padding: the number of zeros on every side.
    bias: whether to add a bias.
    groups: the number of blocks of channels that do not mix.
    init: the initialiser of the kernel, `(key, shape) -> array`; torch's
      default if None.
    bias_init: the initialiser of the bias, of the same form.
    rngs: the source of the initial weights.
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
    bias_init: Callable[..., types.Array] | None = None,
    rngs: nnx.Rngs,
  ):
    shape = (size, size, inputs // groups, outputs)
    default = initializers.uniform(math.prod(shape[:3]))
    self.kernel = nnx.Param((init or default)(rngs.params(), shape))
    bias_init = bias_init or default
    self.bias = (
      nnx.Param(bias_init(rngs.params(), (outputs,))) if bias else None
    )
    self.geometry = geometries.Geometry(
      (stride, stride), ((padding, padding), (padding, padding)), groups
    )

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, C] to [B, H', W', P]."""
    y = self.convolve(x, self.kernel[...])
    site = moments.Site('conv', x, self.geometry, self.context.lowering)
    return self.context.record(self, x, y, site)

  def convolve(self, x: types.Array, kernel: types.Array) -> types.Array:
    """Maps [B, H, W, C] to [B, H', W', P] by any kernel of the layer's form."""
    y = convolution.convolve(x, kernel, self.geometry, self.context.lowering)
    return y if self.bias is None else y + self.bias[...]


class ConvTranspose(Layer):
  """torch.nn.ConvTranspose2d on NHWC images, with torch's default weights.

  It is the transpose of a convolution for a fixed kernel, and keeps the kernel
  of that: [kh, kw, outputs, inputs]. It has no site: a network that is attacked
  has to be matched with `form='explicit'`.

  Args:
    inputs: the number of channels in.
    outputs: the number of channels out.
    size: the side of the kernel.
    stride: the stride in both directions.
    padding: the number of pixels that are cut off on every side.
    bias: whether to add a bias.
    init: the initialiser of the kernel, `(key, shape) -> array`; torch's
      default if None.
    rngs: the source of the initial weights.
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
    init: Callable[..., types.Array] | None = None,
    rngs: nnx.Rngs,
  ):
    shape = (size, size, outputs, inputs)
    default = initializers.uniform(math.prod(shape[:3]))
    self.kernel = nnx.Param((init or default)(rngs.params(), shape))
    self.bias = nnx.Param(default(rngs.params(), (outputs,))) if bias else None
    self.geometry = geometries.Geometry(
      (stride, stride), ((padding, padding), (padding, padding))
    )

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, C] to [B, H', W', P], H' = (H - 1) s - 2 p + k."""
    kernel, geometry = self.kernel[...], self.geometry
    h, w = (
      (n - 1) * s - 2 * p + k
      for n, k, s, (p, _) in zip(
        x.shape[1:3], kernel.shape, geometry.strides, geometry.padding
      )
    )
    faces = convolution.faces(
      (len(x), h, w, kernel.shape[2]),
      kernel.shape,
      geometry,
      self.context.lowering,
    )
    y = faces.to_input(x, kernel)
    if self.bias is not None:
      y = y + self.bias[...]
    return self.context.record(self, x, y)


class Embedding(Layer):
  """torch.nn.Embedding: a row of a table for each class.

  Args:
    classes: the number of rows K.
    features: the number of columns.
    init: the initialiser of the table, `(key, shape) -> array`.
    rngs: the source of the initial weights.
  """

  def __init__(
    self,
    classes: int,
    features: int,
    *,
    init: Callable[..., types.Array] = initializers.normal(1.0),  # noqa: B008 a pure function
    rngs: nnx.Rngs,
  ):
    self.table = nnx.Param(init(rngs.params(), (classes, features)))

  def __call__(self, y: types.Array) -> types.Array:
    """Maps classes [B], or their probabilities [B, K], to rows [B, F]."""
    table = self.table[...]
    rows = table[y] if y.ndim == 1 else y @ table
    return self.context.record(self, y, rows)


class Linear(Layer):
  """torch.nn.Linear, with torch's default initialisation.

  Args:
    inputs: the number of features in.
    outputs: the number of features out.
    bias: whether to add a bias.
    init: the initialiser of the kernel, `(key, shape) -> array`; torch's
      default if None.
    bias_init: the initialiser of the bias, of the same form.
    rank: the rank of a low-rank adapter next to the kernel, `lora_a` then
      `lora_b`, the latter zero at first (Hu et al., LoRA, 2021, arXiv
      2106.09685, with alpha = rank); 0 for none.
    rngs: the source of the initial weights.
  """

  def __init__(
    self,
    inputs: int,
    outputs: int,
    *,
    bias: bool = True,
    init: Callable[..., types.Array] | None = None,
    bias_init: Callable[..., types.Array] | None = None,
    rank: int = 0,
    rngs: nnx.Rngs,
  ):
    init, bias_init = (
      init or initializers.uniform(inputs),
      bias_init or initializers.uniform(inputs),
    )
    self.kernel = nnx.Param(init(rngs.params(), (inputs, outputs)))
    self.bias = (
      nnx.Param(bias_init(rngs.params(), (outputs,))) if bias else None
    )
    part = functools.partial(Linear, bias=False, rngs=rngs)
    self.lora_a = part(inputs, rank) if rank else None
    self.lora_b = part(rank, outputs, init=initializers.zeros) if rank else None
    self.before: Layer | None = nnx.data(None)  # set where a network is edited

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [..., inputs] to [..., outputs]."""
    if self.before is not None:
      x = self.before(x)
    y = x @ self.kernel[...]
    if self.bias is not None:
      y = y + self.bias[...]
    y = self.context.record(self, x, y, moments.Site('linear', x))
    if self.lora_a is None or self.lora_b is None:
      return y
    return y + self.lora_b(self.lora_a(x))


class Parameter(Layer):
  """An array that is a parameter by itself: a token, a table, a scale.

  Its torch name is the module's, without a leaf.
  """

  def __init__(self, value: types.Array):
    self.value = nnx.Param(value)

  def __call__(self) -> types.Array:
    """Returns the array."""
    value = self.value[...]
    return self.context.record(self, None, value, moments.Site('value', value))


class Dropout(Layer):
  """torch.nn.Dropout: a training pass zeroes values and scales up the others.

  Args:
    rate: the probability of a zero, in [0, 1).
    rows: whether to draw once per image, as stochastic depth does (Huang et
      al., Deep Networks with Stochastic Depth, ECCV 2016, arXiv 1603.09382).
  """

  def __init__(self, rate: float, *, rows: bool = False):
    if not 0 <= rate < 1:
      raise ValueError(
        f'Expected a rate in [0, 1); got rate={rate}; use 0 for none'
      )
    self.rate = rate
    self.rows = rows

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, ...] to the same shape."""
    if not self.context.train or not self.rate:
      return x
    shape = (x.shape[0], *[1] * (x.ndim - 1)) if self.rows else x.shape
    mask = jax.random.bernoulli(self.context.draw(self), 1 - self.rate, shape)
    return jnp.where(mask, x / (1 - self.rate), 0)


class Sequential(nnx.List):
  """torch.nn.Sequential: modules, or plain functions, one after another."""

  def __call__(self, x: types.Array) -> types.Array:
    """Returns the output of the last module."""
    for part in self:
      x = part(x)
    return x


def depth_rates(last: float, blocks: int) -> list[float]:
  """Returns a network's rates of stochastic depth, rising from 0 to `last`."""
  return [last * i / max(blocks - 1, 1) for i in range(blocks)]


def residual(x: types.Array, branch: types.Array) -> types.Array:
  """Returns x + branch, added up once (see `fusion_barrier`)."""
  return fusion_barrier.fusion_barrier(x + branch)


def identity(x: types.Array) -> types.Array:
  """Returns x; stands for a step of torch's Sequential that changes nothing."""
  return x


def flatten(x: types.Array) -> types.Array:
  """Maps [B, H, W, C] to [B, C*H*W] in torch's order, channels first."""
  return jnp.moveaxis(x, -1, 1).reshape(x.shape[0], -1)


def unflatten(x: types.Array, shape: tuple[int, int, int]) -> types.Array:
  """Maps [..., C*H*W] in torch's order to [..., H, W, C].

  Args:
    x: the vectors.
    shape: (H, W, C).
  """
  h, w, c = shape
  return jnp.moveaxis(x.reshape(*x.shape[:-1], c, h, w), -3, -1)
