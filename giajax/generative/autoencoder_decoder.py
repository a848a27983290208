"""The decoder of a tiny autoencoder of natural images, of any size.

Bohan, Tiny AutoEncoder for Stable Diffusion, madebyollin/taesd, MIT: the
decoder `taef2`. An image of H x W pixels has a latent of H/8 x W/8 x 32 without
a scale: that of a photograph has a mean near 0 and a deviation near 0.9. It is
no sampler: a latent of noise gives grey texture.

Attribute names are those of the authors' Sequential. Their output is not
bounded; here it is clipped to [0, 1].
"""

import functools
import itertools

from flax import nnx
import jax
import jax.numpy as jnp

from giajax import types
from giajax.generative import base
from giajax.models import layers
from giajax.models.parts import norms

_SCALE = 8  # pixels of a side, to one of the latent's
_BOUND = 3.0  # of the latents behind the first stage


class Block(nnx.Module):
  """Three convolutions beside the identity; in the middle, also a wide one."""

  def __init__(self, width, *, pooled, rngs):
    conv = functools.partial(layers.Conv, rngs=rngs)
    relu = jax.nn.relu
    wide = [
      conv(width, 4 * width, 1, bias=False),
      norms.GroupNorm(4 * width, groups=4, rngs=rngs),
      relu,
      conv(4 * width, width, 1, bias=False),
    ]
    self.pool = layers.Sequential(wide) if pooled else None
    three = [conv(width, width, 3, 1, 1) for _ in range(3)]
    self.conv = layers.Sequential([three[0], relu, three[1], relu, three[2]])

  def __call__(self, x):
    """Maps [M, H, W, C] to the same shape."""
    x = x if self.pool is None else x + self.pool(x)
    return jax.nn.relu(self.conv(x) + x)


class Decoder(layers.Sequential):
  """Blocks at four scales, with a doubling of the sides between."""

  def __init__(self, latent, width, channels, *, rngs):
    conv = functools.partial(layers.Conv, size=3, padding=1, rngs=rngs)

    def blocks(count, pooled=False):
      return [Block(width, pooled=pooled, rngs=rngs) for _ in range(count)]

    def up():
      return [base.doubled, conv(width, width, bias=False)]

    super().__init__(
      [
        _bounded,
        *(conv(latent, width), jax.nn.relu, *blocks(3, pooled=True)),
        *(*up(), *blocks(3)),
        *(*up(), *blocks(3)),
        *(*up(), *blocks(1), conv(width, channels)),
      ]
    )

  def stages(self, y):
    """Returns the stages: a scale of the images each, then the image."""
    del y
    parts = [*self]
    starts = [i for i, part in enumerate(parts) if part is base.doubled]
    edges = [0, *starts, len(parts) - 1, len(parts)]
    named = {
      str(a): base.in_turn(*parts[a:b]) for a, b in itertools.pairwise(edges)
    }
    last = str(edges[-2])
    return {**named, last: base.in_turn(named[last], _clipped)}


def autoencoder_decoder(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  *,
  latent: int = 32,
  width: int = 64,
  lowering: str = 'auto',
) -> base.Generator:
  """The decoder of a tiny autoencoder of natural images, of any size.

  Args:
    image_shape: (H, W, C); H and W are multiples of 8.
    latent: the number of channels of the latent.
    width: the number of channels of all layers.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: a size out of range.
  """
  base.check_width(latent, 'latent')
  base.check_width(width, 'width')
  base.check_image_shape(image_shape, 'autoencoder_decoder')
  h, w, channels = image_shape
  if h % _SCALE or w % _SCALE:
    raise ValueError(
      f'Expected images whose sides are multiples of {_SCALE} for '
      f'autoencoder_decoder; got image_shape={tuple(image_shape)}; resize them'
    )
  shape = (h // _SCALE, w // _SCALE, latent)
  # A random latent is no image's.
  spec = base.Spec(
    'autoencoder_decoder', shape, tuple(image_shape), latents='code'
  )
  return base.from_module(
    lambda rngs: Decoder(latent, width, channels, rngs=rngs), spec, lowering
  )


def _bounded(z: types.Array) -> types.Array:
  return _BOUND * jnp.tanh(z / _BOUND)


def _clipped(x: types.Array) -> types.Array:
  return jnp.clip(x, 0.0, 1.0)
