"""LeNet: the four 5x5 convolutions that Deep Leakage from Gradients attacks.

Zhu, Liu and Han, Deep Leakage from Gradients, NeurIPS 2019, arXiv 1906.08935.
Attribute names are those of the authors' code (`body.0`, `fc.0`). With
`init='dlg'` all weights and biases are drawn from U(-0.5, 0.5), as they do.
"""

from collections.abc import Callable

from flax import nnx
import jax

from giajax import registry
from giajax import types
from giajax.models import base
from giajax.models import layers

ACTIVATIONS = {'sigmoid': jax.nn.sigmoid, 'relu': jax.nn.relu}


class LeNet(nnx.Module):
  """Strides 2, 2, 1, 1 with 12 channels, then one linear layer."""

  def __init__(self, image_shape, classes, activation, bound, *, rngs):
    h, w, channels = image_shape
    init = layers.symmetric(bound) if bound else None
    body: list[nnx.Module | Callable] = []
    for stride in (2, 2, 1, 1):
      conv = layers.Conv(channels, 12, 5, stride, 2, init=init, rngs=rngs)
      if bound and conv.bias is not None:
        conv.bias[...] = layers.symmetric(bound)(rngs.params(), (12,))
      body += [conv, activation]
      channels = 12
    self.body = nnx.List(body)
    features = 12 * -(-h // 4) * -(-w // 4)
    fc = layers.Linear(features, classes, init=init, rngs=rngs)
    if bound and fc.bias is not None:
      fc.bias[...] = layers.symmetric(bound)(rngs.params(), (classes,))
    self.fc = fc

  def __call__(self, x: types.Array) -> types.Array:
    """Maps normalised images [B, H, W, C] to logits [B, K]."""
    for layer in self.body:
      x = layer(x)
    return self.fc(layers.flatten(x))


def lenet(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  *,
  activation: str = 'sigmoid',
  init: str = 'dlg',
  lowering: str = 'auto',
) -> base.Net:
  """The LeNet of Deep Leakage from Gradients, with sigmoid or ReLU.

  Args:
    image_shape: (H, W, C).
    num_classes: size of the last layer.
    activation: 'sigmoid' or 'relu'.
    init: 'dlg' for U(-0.5, 0.5), 'torch' for torch's default.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: an unknown activation or init.
  """
  act = registry.lookup(ACTIVATIONS, activation, 'activation')
  bound = registry.lookup({'dlg': 0.5, 'torch': None}, init, 'init')
  channels = image_shape[2]
  mean, std = (0.5,) * channels, (0.5,) * channels
  spec = base.Spec('lenet', image_shape, num_classes, mean, std)
  return base.from_nnx(
    lambda rngs: LeNet(image_shape, num_classes, act, bound, rngs=rngs),
    spec,
    lowering,
  )
