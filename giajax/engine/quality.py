"""How good a generator is, in the eyes of a network that was trained.

Two numbers: the share of samples that the network takes for the class that was
asked for, and the Frechet distance of Gaussians that are fitted to what its
classifier reads of samples and of real images,

  d^2 = |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2))

Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NIPS 2017, arXiv
1706.08500, equation 6. It is no FID, which is of the features of an Inception
network: distances can be compared if they are of the same network. The same two
numbers of real training images stand beside.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import keys
from giajax import types
from giajax.data import base as data
from giajax.data import cases
from giajax.generative import base as generative
from giajax.models import base as models
from giajax.models import inspect

_BLOCK = 250  # images in one pass
_COUNT = 5_000  # images of each kind
_UPDATES = 25  # in one pass
_FEATURES = 2_048  # a covariance of more takes minutes


class Judge(NamedTuple):
  """A network that was trained."""

  net: models.Net
  variables: types.Variables


class _View(NamedTuple):
  """What a judge sees in images."""

  features: np.ndarray  # [n, F] float64
  right: float  # the share that it takes for their class


def quality(
  judge: Judge,
  trained: generative.Generator,
  variables: types.Variables,
  taught: data.Dataset,
  tested: data.Dataset,
  seed: int,
) -> dict[str, Any]:
  """Returns the two numbers, and those of real images of the training set.

  Args:
    judge: the network; one that reports no features, or more than 2,048, gives
      no distance.
    trained: the generator, of samples.
    variables: its weights.
    taught: the training set of the generator.
    tested: other images like these, which the distances are to.
    seed: the seed of the samples.
  """
  look = _looker(judge)
  real, known = (look(_drawn(dataset, seed)) for dataset in (tested, taught))
  key = keys.named(jax.random.key(seed), 'quality')
  made = look(_made(trained, variables, key))
  distances = (
    {
      'frechet_distance': frechet(made.features, real.features),
      'frechet_distance_of_training_images': frechet(
        known.features, real.features
      ),
    }
    if 0 < real.features.shape[1] <= _FEATURES
    else {}
  )
  shares = (
    {
      'classified_as_asked': made.right,
      'classified_right_of_training_images': known.right,
    }
    if trained.takes_labels
    else {}
  )
  return {
    **shares,
    **distances,
    'samples': _COUNT,
    'network': judge.net.spec.name,
  }


def inversion_psnr(
  error: Callable[..., tuple[types.Array, Any]],
  variables: types.Variables,
  batch_size: int,
  tested: data.Dataset,
  seed: int,
) -> tuple[float, float]:
  """Returns the PSNR of a network that inverts updates, and the mean image's.

  Both are of the mean squared error over many updates, in dB. The mean image is
  that of the images it is compared with, which is the best constant.

  Args:
    error: see `learners.inversion.error`.
    variables: the weights of the network.
    batch_size: the number of images behind an update.
    tested: images that it did not learn from, one batch of them at least.
    seed: the seed of the batches.
  """
  measure = jax.jit(lambda *arguments: error(*arguments)[0])
  key = keys.named(jax.random.key(seed), 'quality')
  together = min(_UPDATES, tested.size // batch_size)
  batches = [*_drawn(tested, seed, together * batch_size)]
  errors = [
    measure(keys.at(key, i), variables, batch)
    for i, batch in enumerate(batches)
  ]
  x = np.concatenate([np.asarray(batch.x, np.float64) for batch in batches])
  both = np.mean(errors), np.mean((x - x.mean(axis=0)) ** 2)
  own, mean = (-10 * np.log10(v) for v in both)
  return float(own), float(mean)


def frechet(first: np.ndarray, second: np.ndarray) -> float:
  """Returns the Frechet distance d^2 of two sets of features, [n, F] each."""
  means = [v.mean(axis=0) for v in (first, second)]
  one, two = (np.atleast_2d(np.cov(v, rowvar=False)) for v in (first, second))
  # C_1 C_2 has the eigenvalues of R C_2 R with R R = C_1.
  values, vectors = np.linalg.eigh(one)
  root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
  roots = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ two @ root), 0))
  between = np.sum((means[0] - means[1]) ** 2)
  return float(between + np.trace(one) + np.trace(two) - 2 * roots.sum())


def _looker(judge: Judge) -> Callable[[Iterator[types.Batch]], _View]:
  tap = inspect.features(judge.net)
  taps = () if tap is None else (tap,)

  @jax.jit
  def look(variables, batch):
    output = judge.net.apply(variables, batch.x, taps=taps)
    features = (
      jnp.zeros((len(batch.x), 0))
      if tap is None
      else output.taps[tap].reshape(len(batch.x), -1)
    )
    return features, jnp.argmax(output.out, -1) == batch.y

  def view(batches):
    seen = [look(judge.variables, batch) for batch in batches]
    features, right = (np.concatenate(parts) for parts in zip(*seen))
    return _View(features.astype(np.float64), float(right.mean()))

  return view


def _drawn(dataset, seed, block=_BLOCK) -> Iterator[types.Batch]:
  """Yields blocks of images of a data set, all different."""
  count = min(max(_COUNT, block), dataset.size)
  indices = cases.held_out(dataset.size, (), seed=seed, case=0, count=count)
  block = min(block, count)
  for part in indices[: count // block * block].reshape(-1, block):
    yield dataset.take(part)


def _made(generator, variables, key) -> Iterator[types.Batch]:
  """Yields samples, of all classes alike."""
  spec = generator.spec

  @jax.jit
  def make(key, y):
    z = keys.normal(key, (_BLOCK, *spec.latent_shape))
    return generator.apply(
      variables, z, y if generator.takes_labels else None
    ).out

  for i in range(_COUNT // _BLOCK):
    y = jnp.arange(_BLOCK) % max(1, spec.num_classes)
    yield types.Batch(make(keys.at(key, i), y), y)
