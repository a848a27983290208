"""Images as the vectors that linear layers read, in torch's order."""

import jax.numpy as jnp

from giajax import types
from giajax.models import base as models
from giajax.models import layers


def to_vector(image: types.Array) -> types.Array:
  """Maps [H, W, C] to [C*H*W], channels first."""
  return layers.flatten(image[None])[0]


def to_image(
  vector: types.Array, image_shape: tuple[int, int, int]
) -> types.Array:
  """Maps [..., C*H*W] to [..., H, W, C]."""
  return layers.unflatten(vector, image_shape)


def to_pixels(
  vector: types.Array, spec: models.Spec, order: types.Array | None = None
) -> types.Array:
  """Maps what a network's first layer reads to images in units of [0, 1].

  Args:
    vector: [..., C*H*W], normalised.
    spec: the spec of the network, for the shape of its images and its
      normalisation.
    order: [H, W, C], where in the vector each pixel is; torch's order if None.

  Returns:
    [..., H, W, C], not clipped.
  """
  if order is None:
    x = to_image(vector, spec.image_shape)
  else:
    x = vector[..., order]
  return x * jnp.asarray(spec.std) + jnp.asarray(spec.mean)
