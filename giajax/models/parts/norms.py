"""Normalisation layers with torch's semantics, and their table."""

from collections.abc import Callable
import functools
import math

from flax import nnx
import jax
import jax.numpy as jnp

from giajax import registry
from giajax import types
from giajax.models import layers
from giajax.models.parts import initializers
from giajax.ops import moments


class BatchNorm(layers.Layer):
  """torch.nn.BatchNorm2d, with the unbiased variance in its running statistics.

  A training pass normalises by the batch's mean and biased variance and moves
  the running statistics by `momentum` towards its mean and unbiased variance.
  With a single value per channel the output would not depend on the input;
  as in torch, such a pass is a ValueError (raised while tracing, as shapes are
  static), not an update that leaks nothing.

  Args:
    features: the number of channels.
    momentum: the weight of the batch in the new running statistics.
    epsilon: a number that is added to the variance.
    affine: whether to scale and shift what is normalised.
    rngs: unused, as the layer starts from constants.
  """

  def __init__(
    self,
    features: int,
    *,
    momentum: float = 0.1,
    epsilon: float = 1e-5,
    affine: bool = True,
    rngs: nnx.Rngs,
  ):
    del rngs
    self.scale = nnx.Param(jnp.ones(features)) if affine else None
    self.bias = nnx.Param(jnp.zeros(features)) if affine else None
    self.mean = nnx.BatchStat(jnp.zeros(features))
    self.var = nnx.BatchStat(jnp.ones(features))
    self.momentum = momentum
    self.epsilon = epsilon

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, C] to the same shape."""
    mean, var = self.mean[...], self.var[...]
    if self.context.train and self.path not in self.context.frozen:
      mean, var = self._batch_statistics(x, mean, var)
    normal = (x - mean) * jax.lax.rsqrt(var + self.epsilon)
    if self.scale is None or self.bias is None:
      return self.context.record(self, x, normal)
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


class ClassBatchNorm(nnx.Module):
  """A BatchNorm whose scale and bias depend on the class of the image.

  Dumoulin, Shlens and Kudlur, A Learned Representation for Artistic Style, ICLR
  2017, arXiv 1610.07629.

  Args:
    features: the number of channels.
    classes: the number of classes K.
    rngs: the source of the initial weights, which are constants.
  """

  def __init__(self, features: int, classes: int, *, rngs: nnx.Rngs):
    ones = initializers.ones
    self.bn = BatchNorm(features, affine=False, rngs=rngs)
    self.gain = layers.Embedding(classes, features, init=ones, rngs=rngs)
    self.bias = layers.Embedding(
      classes, features, init=initializers.zeros, rngs=rngs
    )

  def __call__(self, x: types.Array, y: types.Array) -> types.Array:
    """Maps [B, H, W, C] and classes [B] to the shape of x."""
    gain, bias = (part(y)[:, None, None] for part in (self.gain, self.bias))
    return self.bn(x) * gain + bias


class LayerNorm(layers.Layer):
  """torch.nn.LayerNorm over the last axis, the channels of an NHWC image.

  Args:
    features: the size of the last axis.
    epsilon: a number that is added to the variance.
    rngs: unused, as the layer starts from constants.
  """

  def __init__(self, features: int, *, epsilon: float = 1e-5, rngs: nnx.Rngs):
    del rngs
    self.scale = nnx.Param(jnp.ones(features))
    self.bias = nnx.Param(jnp.zeros(features))
    self.epsilon = epsilon

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [..., C] to the same shape."""
    normal = _standardised(x, (-1,), self.epsilon)
    y = normal * self.scale[...] + self.bias[...]
    return self.context.record(self, x, y, moments.Site('scale', normal))


class GroupNorm(layers.Layer):
  """torch.nn.GroupNorm on NHWC images.

  Args:
    features: the number of channels.
    groups: the number of groups of neighbouring channels; the largest divisor
      of `features` up to 32 that is a power of two if None.
    epsilon: a number that is added to the variance.
    rngs: unused, as the layer starts from constants.
  """

  def __init__(
    self,
    features: int,
    *,
    groups: int | None = None,
    epsilon: float = 1e-5,
    rngs: nnx.Rngs,
  ):
    del rngs
    self.scale = nnx.Param(jnp.ones(features))
    self.bias = nnx.Param(jnp.zeros(features))
    self.groups = groups or math.gcd(32, features)
    self.epsilon = epsilon

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, C] to the same shape."""
    grouped = x.reshape(x.shape[0], -1, self.groups, x.shape[-1] // self.groups)
    normal = _standardised(grouped, (1, 3), self.epsilon).reshape(x.shape)
    y = normal * self.scale[...] + self.bias[...]
    return self.context.record(self, x, y, moments.Site('scale', normal))


class Identity(layers.Layer):
  """No normalisation, in the place of a norm."""

  def __init__(self, features: int, *, rngs: nnx.Rngs):
    del features, rngs

  def __call__(self, x: types.Array) -> types.Array:
    """Returns x."""
    return x


# By option: BatchNorm, LayerNorm over the channels, GroupNorm, or none. Each is
# called with `(features, *, rngs)`.
NORMS = {
  'batch': BatchNorm,
  'group': GroupNorm,
  'layer': LayerNorm,
  'none': Identity,
}


def _standardised(x, axes, epsilon):
  mean = x.mean(axes, keepdims=True)
  var = jnp.square(x - mean).mean(axes, keepdims=True)
  return (x - mean) * jax.lax.rsqrt(var + epsilon)


def factory(
  kind: str, *, momentum: float = 0.1, epsilon: float = 1e-5
) -> Callable[..., nnx.Module]:
  """Returns the `(features, *, rngs) -> module` of a normalisation.

  Args:
    kind: a name in `NORMS`.
    momentum: the momentum of 'batch'.
    epsilon: the epsilon of 'batch'; the other kinds have their own.

  Raises:
    ValueError: an unknown kind.
  """
  norm = registry.lookup(NORMS, kind, 'norm')
  if kind == 'batch':
    return functools.partial(norm, momentum=momentum, epsilon=epsilon)
  return norm
