"""The generator of GRNN, of images and of their labels.

Ren, Deng and Xie, GRNN: Generative Regression Neural Network - A Data Leakage
Attack for Federated Learning, ACM TIST 2022, arXiv 2105.00529.

A transposed convolution and a gated linear unit (GLU) make 4 x 4 features of a
latent; each further stage doubles the side: nearest neighbours, a 3 x 3
convolution, BatchNorm and GLU, the last one to the colours of the image, with a
sigmoid behind. A linear layer makes the logits of a label of the same latent.
Attribute names and initial weights are those of the authors' code, whose N(0,
0.02) is never drawn.
"""

import itertools

from flax import nnx
import jax

from giajax.generative import base
from giajax.models import layers
from giajax.models.parts import norms


class GRNN(nnx.Module):
  """Stages with gated linear units, and a linear layer for the labels."""

  def __init__(self, latent, classes, sides, channels, width, *, rngs):
    self.fc2 = layers.Sequential([layers.Linear(latent, classes, rngs=rngs)])
    widths = [width * 2**i for i in reversed(range(len(sides) - 1))]
    start = layers.ConvTranspose(latent, 2 * widths[0], sides[0], rngs=rngs)
    self.block0 = layers.Sequential([start, jax.nn.glu])
    self.blocks = nnx.List(
      _up(i, o, rngs) for i, o in itertools.pairwise(widths)
    )
    self.deconv_out = _up(width, channels, rngs)

  def stages(self, y):
    """Returns the stages: a side of the images each."""
    del y
    named = {f'blocks.{i}': block for i, block in enumerate(self.blocks)}
    return {
      'block0': base.in_turn(base.as_pixel, self.block0),
      **named,
      'deconv_out': base.in_turn(self.deconv_out, jax.nn.sigmoid),
    }

  def labels(self, z):
    """Maps latents [M, d] to logits [M, K]."""
    return self.fc2(z)


def grnn(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  *,
  latent: int = 128,
  width: int = 32,
  lowering: str = 'auto',
) -> base.Generator:
  """A generator of images and of the logits of their labels.

  Args:
    image_shape: (H, W, C); square, at least 8 x 8, see `base.sides`.
    num_classes: the number of classes K.
    latent: the number of latent numbers, drawn from N(0, 1).
    width: the number of channels in front of the last stage; each stage before
      has twice as many.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: a size out of range, or images of another form.
  """
  base.check_classes(num_classes)
  spec, sides = base.begin('grnn', image_shape, latent, width)
  size = latent, num_classes, sides, image_shape[2], width
  return base.from_module(
    lambda rngs: GRNN(*size, rngs=rngs),
    spec._replace(num_classes=num_classes),
    lowering,
  )


def _up(inputs, outputs, rngs):
  conv = layers.Conv(inputs, 2 * outputs, 3, 1, 1, bias=False, rngs=rngs)
  norm = norms.BatchNorm(2 * outputs, rngs=rngs)
  return layers.Sequential([base.doubled, conv, norm, jax.nn.glu])
