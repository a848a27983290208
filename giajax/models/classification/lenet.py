"""LeNet: the 5x5 convolutions that Deep Leakage from Gradients attacks.

Zhu, Liu and Han, Deep Leakage from Gradients, NeurIPS 2019, arXiv 1906.08935.
The paper's experiments are usually repeated with four convolutions; the
authors' repository has since dropped the last. Like theirs, the network sees
pixels in [0, 1] and, with `init='dlg'`, draws all weights and biases from
U(-0.5, 0.5). Attribute names are theirs except `fc.0`, which is `fc` here:
`convert.load(path, net, rename={'fc.0': 'fc'})`.
"""

from collections.abc import Callable

from flax import nnx

from giajax import registry
from giajax import types
from giajax.models import base
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models.parts import initializers

_STRIDES = (2, 2, 1, 1)


class LeNet(nnx.Module):
  """12 channels throughout, then one linear layer."""

  def __init__(self, image_shape, classes, strides, activation, bound, *, rngs):
    h, w, channels = image_shape
    init = initializers.symmetric(bound) if bound else None
    body: list[nnx.Module | Callable] = []
    for stride in strides:
      conv = layers.Conv(channels, 12, 5, stride, 2, init=init, rngs=rngs)
      if bound and conv.bias is not None:
        conv.bias[...] = initializers.symmetric(bound)(rngs.params(), (12,))
      body += [conv, activation]
      channels = 12
    self.body = nnx.List(body)
    features = 12 * -(-h // 4) * -(-w // 4)
    fc = layers.Linear(features, classes, init=init, rngs=rngs)
    if bound and fc.bias is not None:
      fc.bias[...] = initializers.symmetric(bound)(rngs.params(), (classes,))
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
  convolutions: int = 4,
  activation: str = 'sigmoid',
  init: str = 'dlg',
  normalisation: str = 'none',
  lowering: str = 'auto',
) -> base.Net:
  """The LeNet of Deep Leakage from Gradients, with any activation.

  Args:
    image_shape: (H, W, C).
    num_classes: size of the last layer.
    convolutions: 4, or 3 as in the authors' repository today.
    activation: a name in `layers.ACTIVATIONS`.
    init: 'dlg' for U(-0.5, 0.5), 'torch' for torch's default.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: another number of convolutions, or an unknown activation, init
      or normalisation.
  """
  if convolutions not in (3, 4):
    raise ValueError(
      f'Expected 3 or 4 convolutions; got convolutions={convolutions}; use 4'
    )
  act = registry.lookup(layers.ACTIVATIONS, activation, 'activation')
  bound = registry.lookup({'dlg': 0.5, 'torch': None}, init, 'init')
  name = 'lenet' if activation == 'sigmoid' else f'lenet_{activation}'
  spec = base.make_spec(name, image_shape, num_classes, normalisation)
  strides = _STRIDES[:convolutions]
  return from_nnx.from_nnx(
    lambda rngs: LeNet(
      image_shape, num_classes, strides, act, bound, rngs=rngs
    ),
    spec,
    lowering,
  )
