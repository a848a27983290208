"""MLP: fully connected layers on the flattened image.

The subject of the closed-form attacks: the gradient of a first layer with a
bias reveals its input, Phong et al., Privacy-Preserving Deep Learning via
Additively Homomorphic Encryption, IEEE TIFS 2018. The layers are called
`layers.0`, `layers.1`, ...; pixels enter in torch's order, channels first.
"""

from collections.abc import Sequence
import itertools

from flax import nnx

from giajax import registry
from giajax import types
from giajax.models import base
from giajax.models import from_nnx
from giajax.models import layers


class MLP(nnx.Module):
  """Linear layers with an activation between each two."""

  def __init__(self, inputs, widths, classes, activation, *, rngs):
    sizes = (inputs, *widths, classes)
    self.layers = nnx.List(
      [layers.Linear(i, o, rngs=rngs) for i, o in itertools.pairwise(sizes)]
    )
    self.activation = activation

  def __call__(self, x: types.Array) -> types.Array:
    """Maps normalised images [B, H, W, C] to logits [B, K]."""
    x = layers.flatten(x)
    *hidden, last = self.layers
    for layer in hidden:
      x = self.activation(layer(x))
    return last(x)


def mlp(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  *,
  widths: Sequence[int] = (256,),
  activation: str = 'relu',
  normalisation: str = 'none',
  lowering: str = 'auto',
) -> base.Net:
  """A multi-layer perceptron; without hidden layers, softmax regression.

  Args:
    image_shape: (H, W, C).
    num_classes: size of the last layer.
    widths: sizes of the hidden layers, possibly none.
    activation: a name in `layers.ACTIVATIONS`.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering; without effect here.

  Raises:
    ValueError: a width below 1, an unknown activation or normalisation.
  """
  if any(width < 1 for width in widths):
    raise ValueError(
      f'Expected widths of at least 1; got widths={tuple(widths)}; use () for '
      'no hidden layer'
    )
  act = registry.lookup(layers.ACTIVATIONS, activation, 'activation')
  h, w, channels = image_shape
  spec = base.make_spec('mlp', image_shape, num_classes, normalisation)
  return from_nnx.from_nnx(
    lambda rngs: MLP(h * w * channels, widths, num_classes, act, rngs=rngs),
    spec,
    lowering,
  )
