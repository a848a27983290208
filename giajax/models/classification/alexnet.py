"""AlexNet: five convolutions, three max-pools and three linear layers.

Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep
Convolutional Neural Networks, NeurIPS 2012; the widths and names are those of
torchvision, which follows Krizhevsky, One weird trick for parallelizing
convolutional neural networks, 2014, arXiv 1404.5997.

The CIFAR form is the one of bearpaw/pytorch-classification: the first
convolution padded by 5, pools of 2x2, a global average (of 1x1 at 32 pixels)
and a single linear layer called `classifier`, without dropout. A `dropout`
above zero then stands in front of that layer.
"""

from collections.abc import Callable
import functools

from flax import nnx

from giajax import registry
from giajax import types
from giajax.models import base
from giajax.models import dimensions
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models.parts import pools

# (channels, size, whether a pool follows) of the convolutions.
_CONVOLUTIONS = (
  (64, 11, True),
  (192, 5, True),
  (384, 3, False),
  (256, 3, False),
  (256, 3, True),
)
_HIDDEN = 4096
_POOLED = 6  # side of what the classifier of the ImageNet form sees


class AlexNet(nnx.Module):
  """`features`, a pool and a `classifier`."""

  def __init__(self, channels, classes, activation, width, rate, form, *, rngs):
    self.small = form == 'cifar'
    size = 2 if self.small else 3
    pool = functools.partial(pools.max_pool, size=size, stride=2)
    features: list[nnx.Module | Callable] = []
    for i, (published, size, pooled) in enumerate(_CONVOLUTIONS):
      outputs = dimensions.scaled(published, width)
      padding = size // 2 if i or self.small else 2
      stride = 1 if i else 4
      conv = layers.Conv(channels, outputs, size, stride, padding, rngs=rngs)
      features += [conv, activation] + [pool] * pooled
      channels = outputs
    self.features = layers.Sequential(features)
    linear = functools.partial(layers.Linear, rngs=rngs)
    if self.small:
      self.dropout = layers.Dropout(rate)
      self.classifier = linear(channels, classes)
      return
    hidden = dimensions.scaled(_HIDDEN, width)
    self.classifier = layers.Sequential(
      [
        layers.Dropout(rate),
        linear(channels * _POOLED**2, hidden),
        activation,
        layers.Dropout(rate),
        linear(hidden, hidden),
        activation,
        linear(hidden, classes),
      ]
    )

  def __call__(self, x: types.Array) -> types.Array:
    """Maps normalised images [B, H, W, C] to logits [B, K]."""
    x = self.features(x)
    if self.small:
      x = self.dropout(pools.global_average_pool(x))
    else:
      x = layers.flatten(pools.adaptive_average_pool(x, _POOLED))
    return self.classifier(x)


def alexnet(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  *,
  activation: str = 'relu',
  width: float = 1,
  dropout: float | None = None,
  form: str | None = None,
  normalisation: str = 'imagenet',
  lowering: str = 'auto',
) -> base.Net:
  """AlexNet with one column, of any width.

  Args:
    image_shape: (H, W, C), at least 29x29 in the CIFAR form and 63x63 in the
      ImageNet form.
    num_classes: size of the last layer.
    activation: a name in `layers.ACTIVATIONS`.
    width: factor of all channels and of the hidden layers.
    dropout: rate in [0, 1); 0.5 in the ImageNet form and 0 in the CIFAR form if
      None.
    form: 'cifar' (2x2 pools, one linear layer) or 'imagenet' (3x3 pools, three
      linear layers on 6x6 means); by image size if None.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: an image that is too small, or an unknown or impossible value of
      an option.
  """
  form = dimensions.image_form(image_shape, form, 'form')
  if dropout is None:
    dropout = 0.0 if form == 'cifar' else 0.5
  act = registry.lookup(layers.ACTIVATIONS, activation, 'activation')
  spec = base.make_spec('alexnet', image_shape, num_classes, normalisation)
  dimensions.require_size(image_shape, 29 if form == 'cifar' else 63)
  make = functools.partial(
    AlexNet, image_shape[2], num_classes, act, width, dropout, form
  )
  return from_nnx.from_nnx(lambda rngs: make(rngs=rngs), spec, lowering)
