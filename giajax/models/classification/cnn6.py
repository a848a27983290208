"""CNN6: six convolutions without pools, which R-GAP solves layer by layer.

Zhu and Blaschko, R-GAP: Recursive Gradient Attack on Privacy, ICLR 2021, arXiv
2010.07733, figure 3. No layer has a bias, strides take the place of pools, and
the activations can be inverted. Attribute names are those of the authors' code
(`body.0.layer`, ...), whose last layer has one output, for two classes under a
logistic loss; here it has one per class. Their CNN6-d, whose second layer is
too narrow to be solved for, has `widths=(12, 20, 36, 36, 64, 128)`.
"""

from collections.abc import Sequence
import math

from flax import nnx
import jax

from giajax import types
from giajax.models import base
from giajax.models import from_nnx
from giajax.models import layers
from giajax.ops import geometries

# (size, stride, padding) of each convolution.
_CONVOLUTIONS = (
  (4, 2, 2),
  (3, 2, 1),
  (3, 1, 1),
  (3, 1, 1),
  (3, 2, 1),
  (3, 1, 1),
)


class Block(nnx.Module):
  """A layer by the name that the authors give it."""

  def __init__(self, layer: layers.Conv | layers.Linear):
    self.layer = layer


class CNN6(nnx.Module):
  """Convolutions with LeakyReLU between, then one linear layer."""

  def __init__(self, image_shape, classes, widths, slope, *, rngs):
    *image, channels = image_shape
    body = []
    for width, (size, stride, padding) in zip(
      widths, _CONVOLUTIONS, strict=True
    ):
      conv = layers.Conv(
        channels, width, size, stride, padding, bias=False, rngs=rngs
      )
      body.append(Block(conv))
      image = geometries.output_size(image, (size, size), conv.geometry)
      channels = width
    features = math.prod(image) * channels
    last = layers.Linear(features, classes, bias=False, rngs=rngs)
    self.body = nnx.List([*body, Block(last)])
    self.slope = slope

  def __call__(self, x: types.Array) -> types.Array:
    """Maps normalised images [B, H, W, C] to logits [B, K]."""
    *convolutions, last = self.body
    for block in convolutions:
      x = jax.nn.leaky_relu(block.layer(x), self.slope)
    return last.layer(layers.flatten(x))


def cnn6(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  *,
  widths: Sequence[int] = (12, 36, 36, 36, 64, 128),
  slope: float = 0.2,
  normalisation: str = 'none',
  lowering: str = 'auto',
) -> base.Net:
  """The network of R-GAP.

  Args:
    image_shape: (H, W, C).
    num_classes: size of the last layer.
    widths: channels of the six convolutions.
    slope: the slope of the activations below zero, in [0, 1); 0 for ReLU.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: another number of widths, one below 1, a slope outside its
      range, or an unknown normalisation.
  """
  if len(widths) != len(_CONVOLUTIONS) or min(widths) < 1:
    raise ValueError(
      'Expected six widths of at least 1; got '
      f'widths={tuple(widths)}; use (12, 36, 36, 36, 64, 128) as the paper does'
    )
  if not 0 <= slope < 1:
    raise ValueError(
      f'Expected a slope in [0, 1); got slope={slope}; use 0.2 as the paper '
      'does'
    )
  spec = base.make_spec('cnn6', image_shape, num_classes, normalisation)
  return from_nnx.from_nnx(
    lambda rngs: CNN6(image_shape, num_classes, widths, slope, rngs=rngs),
    spec,
    lowering,
  )
