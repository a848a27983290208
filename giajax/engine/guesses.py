"""What an update is compared with: guesses that were made without it.

They are made of other images of the data set, of the generator that the attack
uses, and of the auxiliary images that the config names. Whether these hold an
image of the batch is known before anything runs.
"""

from collections.abc import Callable
import functools
import math

import jax
import numpy as np

from giajax import keys
from giajax import trees
from giajax import types
from giajax.data import cases
from giajax.data import scale as scales
from giajax.engine import experiment
from giajax.engine import generators
from giajax.generative import base as generative
from giajax.metrics import baselines

SAMPLE = 256  # the largest number of images that the mean image is made of
_BYTES = 5e8  # of the auxiliary images that are kept, one a number


def of_item(
  setup: experiment.Setup, item: experiment.Item, seed: int
) -> dict[str, np.ndarray]:
  """Returns the guesses that can be made, [B, H, W, C] by `BASELINES`.

  Args:
    setup: the setup of the point.
    item: the truth.
    seed: the seed of the experiment.

  Raises:
    ValueError: an image that cannot be read.
  """
  made = {
    **_others(setup, item, seed),
    'class_sample': _class_sample(setup, item, seed),
    'nearest_auxiliary': _nearest(setup, item, seed),
  }
  return {name: x for name, x in made.items() if x is not None}


def known_before(
  setup: experiment.Setup, item: experiment.Item, seed: int
) -> bool:
  """Returns whether the auxiliary data hold an image of the batch.

  Where they are the data set itself, they do, and where the record of the
  generator says that it learned from that. Otherwise, images are compared with
  a sample of them, pixel by pixel at 256 levels: another crop of an image, or
  another compression, counts as another image.

  Args:
    setup: the setup of the point.
    item: the truth.
    seed: the seed of the experiment.

  Raises:
    ValueError: an auxiliary image that cannot be read.
  """
  trained = setup.generator
  if trained and generators.learned_from(trained, setup.dataset):
    return True
  sample = read(setup, seed)
  if sample is None:
    return False
  return setup.auxiliary is setup.dataset or sample.contains(item.batch.x)


def read(setup: experiment.Setup, seed: int) -> baselines.Auxiliary | None:
  """Returns a sample of the auxiliary images, read once; None without any.

  They matter to attacks that use what was learned from them, and to no other.

  Args:
    setup: the setup of the point.
    seed: the seed of the sample.

  Raises:
    ValueError: an image that cannot be read.
  """
  uses = {'auxiliary_data', 'pretrained_generator'} & setup.attack.needs
  if setup.auxiliary is None or not uses:
    return None
  most = int(_BYTES / math.prod(setup.auxiliary.image_shape))
  count = min(baselines.AUXILIARY, max(1, most))
  return _auxiliary(setup.auxiliary.take, setup.auxiliary.size, count, seed)


def _others(setup, item, seed) -> dict[str, np.ndarray | None]:
  """Returns what could be guessed from other images of the data set."""
  size, count = setup.dataset.size, len(item.indices)
  if not size or item.indices[0] == experiment.ELSEWHERE:
    # Which images of the data set these are is not known.
    x = item.batch.x
    if scales.is_row(x.shape[1:]):  # whose mean colour is the row itself
      return {'grey_image': np.full_like(x, 0.5)}
    return {'flat_image': baselines.flat_image(x)}
  if size <= count:
    return {}
  sample = _sample(setup.dataset.take, size, seed)
  outside = cases.held_out(
    size, item.indices, seed=seed, case=item.case, count=count
  )
  others = np.asarray(setup.dataset.take(outside).x)
  return {
    'mean_image': baselines.mean_image(sample, item.indices, item.batch.x),
    'other_image': baselines.other_images(others, count),
  }


def _class_sample(setup, item, seed) -> np.ndarray | None:
  """Returns random images of the generator, None without a sampler."""
  trained = setup.generator
  if trained is None or not trained.generator.spec.samples:
    return None
  generator = trained.generator
  key = keys.named(jax.random.key(seed), 'class_sample')
  shape = (len(item.indices), *generator.spec.latent_shape)
  z = keys.normal(keys.at(key, item.case), shape)
  y = item.batch.y if generator.takes_labels else None
  variables = trees.widened(trained.variables)
  return np.asarray(_maker(generator.apply)(variables, z, y))


def _nearest(setup, item, seed) -> np.ndarray | None:
  """Returns the nearest auxiliary images, None if there are none."""
  sample = read(setup, seed)
  if sample is None:
    return None
  indices = baselines.nearest(sample, item.batch.x)
  if indices is None:
    return None
  return np.asarray(setup.auxiliary.take(indices).x)


@functools.lru_cache(maxsize=4)
def _maker(apply: generative.ApplyFn) -> Callable[..., types.Array]:
  """Returns `(variables, z, y) -> images`, compiled once for all items."""
  return jax.jit(lambda variables, z, y: apply(variables, z, y).out)


@functools.lru_cache(maxsize=4)
def _sample(take, size: int, seed: int) -> baselines.SampleSum:
  """Returns the sample behind a data set's mean image, which is read once."""
  indices = cases.held_out(size, (), seed=seed, case=0, count=SAMPLE)
  return baselines.sample(take, indices)


@functools.lru_cache(maxsize=2)
def _auxiliary(take, size: int, count: int, seed: int) -> baselines.Auxiliary:
  """Returns the sample of auxiliary images, which is read once."""
  indices = cases.held_out(size, (), seed=seed, case=0, count=count)
  return baselines.auxiliary(take, indices)
