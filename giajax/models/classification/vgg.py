"""VGG: 3x3 convolutions between five max-pools, with or without BatchNorm.

Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image
Recognition, ICLR 2015, arXiv 1409.1556; with BatchNorm as in torchvision. The
names are torchvision's (`features.3.weight`; a norm shifts the indices after
it by one whatever its kind).

The CIFAR form is the one in common use: the same `features`, a global average
(of 1x1 at 32 pixels) and a single linear layer called `classifier`, without
dropout. A `dropout` above zero then stands in front of that layer.
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
from giajax.models.parts import initializers
from giajax.models.parts import norms
from giajax.models.parts import pools

# Convolutions in front of each pool.
_STAGES = {
  11: (1, 1, 2, 2, 2),
  13: (2, 2, 2, 2, 2),
  16: (2, 2, 3, 3, 3),
  19: (2, 2, 4, 4, 4),
}
_CHANNELS = (64, 128, 256, 512, 512)
_HIDDEN = 4096
_POOLED = 7  # side of what the classifier of the ImageNet form sees

_conv = functools.partial(
  layers.Conv, init=initializers.he_normal_fan_out, bias_init=initializers.zeros
)
_linear = functools.partial(
  layers.Linear, init=initializers.normal(0.01), bias_init=initializers.zeros
)


class VGG(nnx.Module):
  """`features`, a pool and a `classifier`."""

  def __init__(
    self, channels, classes, depth, norm, activation, width, rate, form, *, rngs
  ):
    features: list[nnx.Module | Callable] = []
    for count, published in zip(_STAGES[depth], _CHANNELS):
      outputs = dimensions.scaled(published, width)
      for _ in range(count):
        features.append(_conv(channels, outputs, 3, 1, 1, rngs=rngs))
        if norm is not None:
          features.append(norm(outputs, rngs=rngs))
        features.append(activation)
        channels = outputs
      features.append(functools.partial(pools.max_pool, size=2, stride=2))
    self.features = layers.Sequential(features)
    self.small, linear = form == 'cifar', functools.partial(_linear, rngs=rngs)
    if self.small:
      self.dropout = layers.Dropout(rate)
      self.classifier = linear(channels, classes)
      return
    hidden = dimensions.scaled(_HIDDEN, width)
    self.classifier = layers.Sequential(
      [
        linear(channels * _POOLED**2, hidden),
        activation,
        layers.Dropout(rate),
        linear(hidden, hidden),
        activation,
        layers.Dropout(rate),
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


def vgg(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  *,
  depth: int = 16,
  norm: str = 'none',
  activation: str = 'relu',
  width: float = 1,
  dropout: float | None = None,
  form: str | None = None,
  normalisation: str = 'imagenet',
  lowering: str = 'auto',
) -> base.Net:
  """VGG of depth 11, 13, 16 or 19.

  Args:
    image_shape: (H, W, C), at least 32x32.
    num_classes: size of the last layer.
    depth: the number of layers.
    norm: a name in `norms.NORMS`, after each convolution.
    activation: a name in `layers.ACTIVATIONS`.
    width: factor of all channels and of the hidden layers.
    dropout: rate in [0, 1); 0.5 in the ImageNet form and 0 in the CIFAR form if
      None.
    form: 'cifar' (one linear layer) or 'imagenet' (three, on 7x7 means); by
      image size if None.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: an image below 32 pixels, or an unknown or impossible value of
      an option.
  """
  if depth not in _STAGES:
    raise ValueError(
      f'Expected depth 11, 13, 16 or 19; got depth={depth}; use one of them'
    )
  form = dimensions.image_form(image_shape, form, 'form')
  if dropout is None:
    dropout = 0.0 if form == 'cifar' else 0.5
  kind = registry.lookup(norms.NORMS, norm, 'norm')
  act = registry.lookup(layers.ACTIVATIONS, activation, 'activation')
  suffix = {'none': '', 'batch': '_bn'}.get(norm, f'_{norm}')
  spec = base.make_spec(
    f'vgg{depth}{suffix}', image_shape, num_classes, normalisation
  )
  dimensions.require_size(image_shape, 32)
  make = functools.partial(
    VGG,
    image_shape[2],
    num_classes,
    depth,
    None if norm == 'none' else kind,
    act,
    width,
    dropout,
    form,
  )
  return from_nnx.from_nnx(lambda rngs: make(rngs=rngs), spec, lowering)
