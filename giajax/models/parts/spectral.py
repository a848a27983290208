"""Layers whose kernels are divided by their largest singular value.

Miyato, Kataoka, Koyama and Yoshida, Spectral Normalization for Generative
Adversarial Networks, ICLR 2018, arXiv 1802.05957.
"""

from flax import nnx
import jax
import jax.numpy as jnp

from giajax import keys
from giajax import trees
from giajax import types
from giajax.models import layers

_EPSILON = 1e-12


class SpectralConv(layers.Conv):
  """A convolution whose kernel has a spectral norm of one, see `_normalised`.

  The layer has no site, like `layers.ConvTranspose`.

  Args:
    inputs: the number of channels in.
    outputs: the number of channels out.
    size: the side of the kernel.
    stride: the stride in both directions.
    padding: the number of zeros on every side.
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
    rngs: nnx.Rngs,
  ):
    super().__init__(inputs, outputs, size, stride, padding, rngs=rngs)
    self.u0 = nnx.BatchStat(keys.normal(rngs.params(), (1, outputs)))

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, C] to [B, H', W', P]."""
    y = self.convolve(x, _normalised(self))
    return self.context.record(self, x, y)


class SpectralLinear(layers.Linear):
  """A linear layer whose kernel has a spectral norm of one, see `_normalised`.

  The layer has no site.

  Args:
    inputs: the number of features in.
    outputs: the number of features out.
    bias: whether to add a bias.
    rngs: the source of the initial weights.
  """

  def __init__(
    self, inputs: int, outputs: int, *, bias: bool = True, rngs: nnx.Rngs
  ):
    super().__init__(inputs, outputs, bias=bias, rngs=rngs)
    self.u0 = nnx.BatchStat(keys.normal(rngs.params(), (1, outputs)))

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [..., inputs] to [..., outputs]."""
    y = x @ _normalised(self)
    y = y if self.bias is None else y + self.bias[...]
    return self.context.record(self, x, y)


def renewed(variables: types.Variables) -> types.Tree:
  """Returns the statistics after one more power iteration in every layer.

  The vectors follow weights that change from pass to pass. Other statistics,
  and a network without spectral norms, stay as they are.

  Args:
    variables: the variables of a network made of `layers`.
  """
  kernels = trees.named_leaves(variables.params)
  stats = trees.named_leaves(variables.stats)
  for name, u in stats.items():
    path, _, last = name.rpartition('.')
    if last == 'u0':
      stats[name] = _iterated(kernels[f'{path}.kernel'], u)[0]
  return trees.like(variables.stats, stats)


def _normalised(layer: SpectralConv | SpectralLinear) -> types.Array:
  """Returns the kernel of a layer, divided by its largest singular value.

  The kernel is a matrix with a row for each channel out. The value is estimated
  by one step of the power iteration from the vector `u0`; a training pass
  reports the vector that the step ends with. No derivative goes through the
  vectors.
  """
  kernel = layer.kernel[...]
  u, v = _iterated(kernel, layer.u0[...])
  if layer.context.train:
    layer.context.stats[layer.path] = {'u0': u}
  return kernel / jnp.vdot(u[0] @ _matrix(kernel), v[0])


def _iterated(kernel, u):
  """Returns the next left and right singular vectors, [1, P] and [1, F]."""
  matrix = jax.lax.stop_gradient(_matrix(kernel))
  v = _normal(u @ matrix)
  return jax.lax.stop_gradient((_normal(v @ matrix.T), v))


def _matrix(kernel):
  return kernel.reshape(-1, kernel.shape[-1]).T


def _normal(v):
  return v / jnp.maximum(jnp.linalg.norm(v), _EPSILON)
