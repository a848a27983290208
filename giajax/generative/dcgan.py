"""DCGAN: transposed convolutions, BatchNorm and ReLU, with or without classes.

Radford, Metz and Chintala, Unsupervised Representation Learning with Deep
Convolutional Generative Adversarial Networks, ICLR 2016, arXiv 1511.06434.

`dcgan` is the generator of PyTorch's example, with its attribute names: a
kernel of 4 x 4 makes an image of 4 x 4 of the latent, and each stage behind it
doubles the side. Files made with that example are read with
`prefix='netG_state_dict'`, or whatever was put in front of 'main'.

`conditional_dcgan` takes classes. A linear layer reads the latent beside an
embedding of the class, and each BatchNorm behind it has a scale and a bias for
each class; a convolution of 3 x 3 makes the image. It is ours, with the parts
that small generators for CIFAR-10 have in common.

Both start from weights of N(0, 0.02) and end with tanh, mapped to [0, 1].
"""

import functools
import itertools

from flax import nnx
import jax
import jax.numpy as jnp

from giajax.generative import base
from giajax.models import layers
from giajax.models.parts import initializers
from giajax.models.parts import norms

_INIT = initializers.normal(0.02)


class DCGAN(nnx.Module):
  """Transposed convolutions without biases, each but the last normalised."""

  def __init__(self, latent, sides, channels, width, *, rngs):
    deconv = functools.partial(
      layers.ConvTranspose, bias=False, init=_INIT, rngs=rngs
    )
    body, inputs = [], latent
    for i in reversed(range(len(sides) - 1)):
      shape = (4, 2, 1) if body else (sides[0], 1, 0)
      outputs = width * 2**i
      body += [deconv(inputs, outputs, *shape)]
      body += [norms.BatchNorm(outputs, rngs=rngs), jax.nn.relu]
      inputs = outputs
    self.main = layers.Sequential([*body, deconv(inputs, channels, 4, 2, 1)])

  def stages(self, y):
    """Returns the stages: a side of the images each."""
    del y
    *body, last = self.main
    parts = [base.in_turn(*body[i : i + 3]) for i in range(0, len(body), 3)]
    parts[0] = base.in_turn(base.as_pixel, parts[0])
    named = {f'main.{3 * i}': part for i, part in enumerate(parts)}
    return {**named, f'main.{len(body)}': base.in_turn(last, base.half_tanh)}


class ConditionalDCGAN(nnx.Module):
  """A linear layer, and transposed convolutions normalised class by class."""

  def __init__(
    self, latent, embedding, classes, sides, channels, width, *, rngs
  ):
    widths = [width * 2**i for i in reversed(range(len(sides)))]
    self.start = (sides[0], sides[0], widths[0])
    size = sides[0] ** 2 * widths[0]
    self.embed = layers.Embedding(classes, embedding, init=_INIT, rngs=rngs)
    self.fc = layers.Linear(
      latent + embedding, size, bias=False, init=_INIT, rngs=rngs
    )
    self.bn = norms.BatchNorm(widths[0], rngs=rngs)
    self.deconvs = nnx.List(
      layers.ConvTranspose(i, o, 4, 2, 1, bias=False, init=_INIT, rngs=rngs)
      for i, o in itertools.pairwise(widths)
    )
    self.norms = nnx.List(
      norms.ClassBatchNorm(o, classes, rngs=rngs) for o in widths[1:]
    )
    self.conv = layers.Conv(width, channels, 3, 1, 1, init=_INIT, rngs=rngs)

  def stages(self, y):
    """Returns the stages: a side of the images each, then the image."""

    def first(z):
      x = self.fc(jnp.concatenate([z, self.embed(y)], axis=-1))
      return jax.nn.relu(self.bn(layers.unflatten(x, self.start)))

    def behind(deconv, norm):
      return lambda h: jax.nn.relu(norm(deconv(h), y))

    named = {
      f'deconvs.{i}': behind(*pair)
      for i, pair in enumerate(zip(self.deconvs, self.norms))
    }
    last = base.in_turn(self.conv, base.half_tanh)
    return {'fc': first, **named, 'conv': last}


def dcgan(
  image_shape: tuple[int, int, int] = (64, 64, 3),
  *,
  latent: int = 100,
  width: int = 64,
  lowering: str = 'auto',
) -> base.Generator:
  """Transposed convolutions from a latent to an image, without labels.

  Args:
    image_shape: (H, W, C); square, at least 8 x 8, see `base.sides`.
    latent: the number of latent numbers, drawn from N(0, 1).
    width: the number of channels in front of the last layer; each layer before
      has twice as many.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: a size out of range, or images of another form.
  """
  spec, sides = base.begin('dcgan', image_shape, latent, width)
  return base.from_module(
    lambda rngs: DCGAN(latent, sides, image_shape[2], width, rngs=rngs),
    spec,
    lowering,
  )


def conditional_dcgan(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  num_classes: int = 10,
  *,
  latent: int = 64,
  embedding: int = 32,
  width: int = 32,
  lowering: str = 'auto',
) -> base.Generator:
  """Transposed convolutions from a latent and a class to an image.

  Args:
    image_shape: (H, W, C); square, at least 8 x 8, see `base.sides`.
    num_classes: the number of classes K.
    latent: the number of latent numbers, drawn from N(0, 1).
    embedding: the number of numbers that stand for a class beside them.
    width: the number of channels in front of the last layer; each layer before
      has twice as many.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: a size out of range, or images of another form.
  """
  base.check_width(embedding, 'embedding')
  base.check_classes(num_classes)
  spec, sides = base.begin('conditional_dcgan', image_shape, latent, width)
  size = latent, embedding, num_classes, sides, image_shape[2], width
  return base.from_module(
    lambda rngs: ConditionalDCGAN(*size, rngs=rngs),
    spec._replace(num_classes=num_classes),
    lowering,
  )
