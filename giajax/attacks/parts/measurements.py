"""Measurements of an image, h(x) = f . x, and bins of equal mass for them.

A malicious server chooses f, knows the mean and the standard deviation of h and
assumes its law. It separates the images of a batch by the bins that they fall
into (`imprint`).
"""

from collections.abc import Callable, Mapping
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.special

from giajax import keys
from giajax import registry
from giajax import require
from giajax import types
from giajax.attacks.parts import image_vectors

# The ends of the outer bins: no image is expected to lie more standard
# deviations than this away from the mean.
_FAR = 10.0
_MODE = 32  # half periods of the cosine over all values of an image


def mean(key: types.Array, image_shape: tuple[int, int, int]) -> types.Array:
  """The average of all values: brightness."""
  del key
  return jnp.full(image_shape, 1 / math.prod(image_shape))


def random(key: types.Array, image_shape: tuple[int, int, int]) -> types.Array:
  """A Gaussian direction of mean zero."""
  normal = keys.normal(key, image_shape)
  return (normal - normal.mean()) / math.prod(image_shape)


def fourier(key: types.Array, image_shape: tuple[int, int, int]) -> types.Array:
  """A cosine along the values of the image, in the manner of the authors."""
  del key
  size = math.prod(image_shape)
  wave = jnp.cos(jnp.pi / size * (jnp.arange(size) + 0.5) * _MODE)
  return image_vectors.to_image(wave / size, image_shape)


# By name: `(key, (H, W, C)) -> f [H, W, C]`, weights of a sum over an image in
# [0, 1]; keys are consumed.
FUNCTIONALS: Mapping[
  str, Callable[[types.Array, tuple[int, int, int]], types.Array]
] = {
  'fourier': fourier,
  'mean': mean,
  'random': random,
}


def _laplace(p: np.ndarray) -> np.ndarray:
  tail = np.log(2 * np.minimum(p, 1 - p)) / math.sqrt(2)
  return np.where(p < 0.5, tail, -tail)


# By name: quantiles of a law of mean 0 and variance 1.
LAWS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
  'gaussian': scipy.special.ndtri,
  'laplace': _laplace,
}


def edges(law: str, bins: int) -> np.ndarray:
  """Returns the ends of bins of equal mass, [bins + 1], in deviations."""
  inner = LAWS[law](np.arange(1, bins) / bins)
  return np.concatenate([[-_FAR], inner, [_FAR]])


def centres(law: str, bins: int) -> np.ndarray:
  """Returns the medians of bins of equal mass, [bins], in deviations."""
  return LAWS[law]((np.arange(bins) + 0.5) / bins)


def check(law: str, location: float | None, scale: float | None) -> None:
  """Raises ValueError for a law or statistics that do not exist.

  Args:
    law: a name in `LAWS`.
    location: the mean of the measurement, or None, like `scale`.
    scale: the standard deviation of the measurement.
  """
  registry.lookup(LAWS, law, 'law')
  if (location is None) != (scale is None):
    raise ValueError(
      'Expected location and scale together, or neither; got '
      f'location={location}, scale={scale}; leave both out to measure '
      'proxy_data'
    )
  if location is not None:
    require.finite(location, 'location')
    require.positive(
      scale, 'scale', advice='it is the standard deviation of the measurement'
    )


def knowledge(location: float | None) -> frozenset[str]:
  """Returns the grants that the statistics of a measurement need."""
  return frozenset({'proxy_data'} if location is None else ())


def statistics(
  side: Mapping[str, Any],
  weights: types.Array,
  location: float | None,
  scale: float | None,
) -> tuple[types.Array | float, types.Array | float]:
  """Returns mean and standard deviation of a measurement of images in [0, 1].

  Args:
    side: the side knowledge, with 'proxy_data' [P, H, W, C] if `location` and
      `scale` are None.
    weights: the weights f of the measurement, [H, W, C].
    location: its mean, if that is known.
    scale: its standard deviation, if that is known.
  """
  if location is not None and scale is not None:
    return location, scale
  measured = jnp.einsum(
    'phwc,hwc->p', side['proxy_data'], weights, precision='highest'
  )
  # A single image, or equal ones, have no spread.
  return measured.mean(), jnp.maximum(measured.std(), 1e-6)
