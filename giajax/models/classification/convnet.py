"""ConvNet: the eight convolutions of Inverting Gradients.

Geiping et al., Inverting Gradients - How easy is it to break privacy in
federated learning?, NeurIPS 2020, arXiv 2003.14053. Attribute names are those
of the authors' code (`model.conv0`, `model.bn0`, ..., `model.linear`).
"""

from flax import nnx
import jax

from giajax import types
from giajax.models import base
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models.parts import norms
from giajax.models.parts import pools

# Width factor of each convolution; the pools follow the sixth and the eighth.
_WIDTHS = (1, 2, 2, 4, 4, 4, 4, 4)
_POOL_AFTER = (5, 7)


class Body(nnx.Module):
  """conv, BatchNorm, ReLU eight times, two max-pools and a linear layer."""

  def __init__(self, image_shape, classes, width, *, rngs):
    h, w, channels = image_shape
    for i, factor in enumerate(_WIDTHS):
      outputs = factor * width
      setattr(
        self,
        f'conv{i}',
        layers.Conv(channels, outputs, 3, 1, 1, rngs=rngs),
      )
      setattr(self, f'bn{i}', norms.BatchNorm(outputs, rngs=rngs))
      channels = outputs
      if i in _POOL_AFTER:
        h, w = h // 3, w // 3
    self.linear = layers.Linear(h * w * channels, classes, rngs=rngs)

  def __call__(self, x: types.Array) -> types.Array:
    """Maps normalised images [B, H, W, C] to logits [B, K]."""
    for i in range(len(_WIDTHS)):
      x = getattr(self, f'bn{i}')(getattr(self, f'conv{i}')(x))
      x = jax.nn.relu(x)
      if i in _POOL_AFTER:
        x = pools.max_pool(x, 3, 3)
    return self.linear(layers.flatten(x))


class ConvNet(nnx.Module):
  """Names the layers as the authors' Sequential does."""

  def __init__(self, image_shape, classes, width, *, rngs):
    self.model = Body(image_shape, classes, width, rngs=rngs)

  def __call__(self, x: types.Array) -> types.Array:
    """Maps normalised images [B, H, W, C] to logits [B, K]."""
    return self.model(x)


def convnet(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  *,
  width: int = 64,
  normalisation: str = 'cifar10',
  lowering: str = 'auto',
) -> base.Net:
  """The ConvNet of Inverting Gradients, of any width.

  Args:
    image_shape: (H, W, C), at least 9x9.
    num_classes: size of the last layer.
    width: channels of the first convolution; the last has four times as many.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: an image smaller than the two 3x3 pools, width < 1,
      or an unknown normalisation.
  """
  if min(image_shape[:2]) < 9:
    raise ValueError(
      'Expected images of at least 9x9 for the two 3x3 pools; got '
      f'image_shape={image_shape}; use a larger image'
    )
  if width < 1:
    raise ValueError(
      f'Expected width >= 1; got width={width}; use 64 as the paper does'
    )
  spec = base.make_spec(
    f'convnet{width}', image_shape, num_classes, normalisation
  )
  return from_nnx.from_nnx(
    lambda rngs: ConvNet(image_shape, num_classes, width, rngs=rngs),
    spec,
    lowering,
  )
