"""The imprint layer: bins of a measurement that part a batch into its images.

Fowl et al., Robbing the Fed: Directly Obtaining Private Data in Federated
Learning with Modified Models, ICLR 2022, arXiv 2110.13057. In front of the
network the server puts

  z_i = w_i . x + b_i    a_i = relu(z_i) or clip(z_i / c, 0, 1)    x' = V a + e

with k units over the d values of an image: 2 d k + k + d parameters. An image
reaches w_i and b_i in the proportion dL/dw_i = dL/db_i x while z_i is in the
open range of the activation, so that a unit which one image of the batch alone
reached gives it away. With w_i = w, measurements h(x) = w . x, and biases at
the quantiles of h, every image falls into one of k bins of equal mass.

This file has the layer, measurements, bins, and how candidates are chosen;
`robbing_the_fed` and `loki` are attacks made of it.
"""

from collections.abc import Callable, Mapping
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from giajax import keys
from giajax import registry
from giajax import types
from giajax import world as worlds
from giajax.models import base as models
from giajax.models import layers
from giajax.models.parts import initializers

# Standard deviations beyond which no image is expected: the ends of the outer
# bins.
_FAR = 10.0
_MODE = 32  # half periods of the cosine over all values of an image
# A bin with less of the gradient than this holds nothing but rounding.
_EMPTY = 1e-6
_SLACK = 0.05  # by which an image that came back may leave [0, 1]
# Root mean square below which two candidates are one image, and the projections
# that it is estimated from.
_SAME = 0.01
_PROJECTIONS = 16


class Front(layers.Layer):
  """Linear, bounded or not, linear: from any values to an image's.

  Args:
    inputs: values that it reads.
    image_shape: (H, W, C) of what it returns.
    bins: k, units in between.
    ceiling: c, the activation's upper bound before it is divided by it; None
      for ReLU.
    fresh: whether its weights are drawn as torch would; zeros, which the
      server replaces, if not.
    rngs: source of the initial weights.
  """

  def __init__(
    self,
    inputs: int,
    image_shape: tuple[int, int, int],
    bins: int,
    ceiling: float | None,
    *,
    fresh: bool = False,
    rngs: Any,
  ):
    # Drawing them takes seconds at 224 pixels.
    init = None if fresh else initializers.zeros
    self.first = layers.Linear(
      inputs, bins, init=init, bias_init=init, rngs=rngs
    )
    self.second = layers.Linear(
      bins, math.prod(image_shape), init=init, bias_init=init, rngs=rngs
    )
    self.image_shape = image_shape
    self.ceiling = ceiling

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H', W', C'] to normalised images [B, H, W, C]."""
    z = self.first(layers.flatten(x))
    if self.ceiling is None:
      a = jax.nn.relu(z)
    else:
      a = jnp.clip(z / self.ceiling, 0, 1)
    return unflatten(self.second(a), self.image_shape)


class Candidates(NamedTuple):
  """What may be images, in any number C."""

  x: types.Array  # [C, H, W, c] in units of [0, 1], not clipped
  mass: types.Array  # [C] how much of the gradient each stands for


def mean(key: types.Array, image_shape: tuple[int, ...]) -> types.Array:
  """The average of all values: brightness."""
  del key
  return jnp.full(image_shape, 1 / math.prod(image_shape))


def random(key: types.Array, image_shape: tuple[int, ...]) -> types.Array:
  """A Gaussian direction of mean zero."""
  drawn = keys.normal(key, image_shape)
  return (drawn - drawn.mean()) / math.prod(image_shape)


def fourier(key: types.Array, image_shape: tuple[int, ...]) -> types.Array:
  """A cosine along the values of the image, in the manner of the authors."""
  del key
  size = math.prod(image_shape)
  wave = jnp.cos(jnp.pi / size * (jnp.arange(size) + 0.5) * _MODE)
  return unflatten(wave / size, image_shape)


# By name: `(key, (H, W, C)) -> [H, W, C]`, weights of a sum over an image in
# [0, 1]; keys are consumed.
FUNCTIONALS: Mapping[str, Callable[..., types.Array]] = {
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


def check(
  world: worlds.World,
  who: str,
  bins: int,
  least: int,
  law: str,
  location: float | None,
  scale: float | None,
) -> None:
  """Raises ValueError for arguments that no imprint attack can work with.

  Args:
    world: whose network must take a layer in front.
    who: the attack.
    bins: k.
    least: the images that are to fall into them.
    law: a name in `LAWS`.
    location: of the measurement, or None, like `scale`.
    scale: of the measurement.
  """
  if world.net.edit is None:
    raise ValueError(
      'Expected a network made of giajax layers and trained as a whole for '
      f'{who}, which puts a layer in front; got {world.net.spec.name}; build '
      'it by from_nnx, or leave trainable out'
    )
  if bins < max(2, least):
    raise ValueError(
      f'Expected at least 2 bins, and one for each of {least} images; got '
      f'bins={bins}; raise it or lower the batch size'
    )
  registry.lookup(LAWS, law, 'law')
  known = [v for v in (location, scale) if v is not None]
  if len(known) == 1 or not all(map(math.isfinite, known)):
    raise ValueError(
      'Expected location and scale together and finite, or neither; got '
      f'location={location}, scale={scale}; leave both out to measure '
      'proxy_data'
    )
  if scale is not None and scale <= 0:
    raise ValueError(
      f'Expected scale > 0; got scale={scale}; it is the standard deviation '
      'of the measurement'
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
    side: with 'proxy_data' [P, H, W, C] where the next are None.
    weights: [H, W, C] of the measurement.
    location: what is known of it.
    scale: likewise.
  """
  if location is not None and scale is not None:
    return location, scale
  measured = jnp.einsum(
    'phwc,hwc->p', side['proxy_data'], weights, precision='highest'
  )
  # Of a single image, or equal ones, there is no scale to be had.
  return measured.mean(), jnp.maximum(measured.std(), 1e-6)


def passed_on(activations: np.ndarray) -> tuple[float, float]:
  """Returns scale and shift of a sum of activations that make it standard.

  The network behind reads grey images whose level has mean 0 and variance 1,
  as its normalised images have.

  Args:
    activations: [k, n], of all units for n equally likely measurements.
  """
  total = activations.sum(0)
  spread = max(float(total.std()), 1e-6)
  return 1 / spread, -float(total.mean()) / spread


def insert(
  make: Callable[..., layers.Layer],
) -> Callable[[models.Net], models.Net]:
  """Returns what puts `make(rngs=rngs)` in front of a network."""

  def change(module, rngs):
    setattr(module, models.FRONT, make(rngs=rngs))

  return lambda net: net.edit(change)  # pyrefly: ignore


def flatten(image: types.Array) -> types.Array:
  """Maps [H, W, C] to [C*H*W] in torch's order."""
  return layers.flatten(image[None])[0]


def unflatten(flat: types.Array, image_shape: tuple[int, ...]) -> types.Array:
  """Maps [..., C*H*W] in torch's order to [..., H, W, C]."""
  h, w, c = image_shape
  return jnp.moveaxis(flat.reshape(*flat.shape[:-1], c, h, w), -3, -1)


def reconstruction(
  found: Candidates, count: int, batch_size: int
) -> types.Reconstruction:
  """Picks different images among candidates, by what the server can see.

  First those that came back more than once, because no two mixtures of images
  are alike, then those within [0, 1], then others; empty and repeated ones are
  left over. No labels are claimed. The score is the share of the batch of which
  nothing like an image was found.

  Args:
    found: candidates in descending order of mass.
    count: M, at most C.
    batch_size: B.
  """
  flat = found.x.reshape(len(found.x), -1)
  there = found.mass > _EMPTY * found.mass.max()
  image = there & (flat.min(1) > -_SLACK) & (flat.max(1) < 1 + _SLACK)
  signs = jax.random.rademacher(
    jax.random.key(0), (flat.shape[1], _PROJECTIONS), jnp.float32
  )
  told = jnp.dot(flat, signs, precision='highest')
  apart = jnp.square(told[:, None] - told[None]).mean(-1) / flat.shape[1]
  same = (apart < _SAME**2) & there
  first = there & ~jnp.tril(same, -1).any(1)
  rank, best = jax.lax.top_k(first * (1.0 + image * same.sum(1)), count)
  valid = rank > 0
  missed = 1 - (image[best] & valid).sum() / batch_size
  return types.Reconstruction(
    types.Batch(jnp.clip(found.x[best], 0, 1), jnp.full(count, -1, jnp.int32)),
    valid,
    missed.astype(jnp.float32),
  )
