"""What the agreed network sees in images, for the metrics that need it.

Features are what the classifier reads, in inference mode, with the weights that
the server and its clients agreed on. No attack may see those of the true
images.
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from giajax import same
from giajax import types
from giajax.data import cases
from giajax.engine import experiment
from giajax.metrics import iip
from giajax.models import base as models
from giajax.models import inspect

_BLOCK = 8  # images per pass: any number of them takes one compilation
_REMEMBERED = 2e8  # bytes of features that are kept for later batches


class Activations(NamedTuple):
  """What a network computes from an image."""

  features: Any  # [n, F] array, F = 0 if the network cannot report them
  out: Any  # [n, K] logits, or another tree of arrays [n, ...]


def facts(
  setup: experiment.Setup, item: experiment.Item, seed: int
) -> dict[str, Any]:
  """Returns what the network computes from the true images.

  Args:
    setup: the setup of the point.
    item: the truth.
    seed: the seed of the experiment.

  Returns:
    'features' and 'rivals' as in `metrics.base.FACTS`; an empty dict if the
    network cannot report its features.
  """
  features = view(setup, item.batch.x).features
  if not features.shape[1]:
    return {}
  return {'features': features, 'rivals': rivals(setup, item, seed)}


def hat(setup: experiment.Setup, x_hat: np.ndarray) -> dict[str, np.ndarray]:
  """Returns what the network computes from guesses.

  Args:
    setup: the setup of the point.
    x_hat: [n, H, W, C] the guesses.

  Returns:
    'features_hat' as in `metrics.base.FACTS`, [n, F]; an empty dict if the
    network cannot report its features.
  """
  features = view(setup, x_hat).features
  return {'features_hat': features} if features.shape[1] else {}


def rivals(
  setup: experiment.Setup, item: experiment.Item, seed: int
) -> list[np.ndarray]:
  """Returns the features [at most RIVALS, F] of each image's rivals.

  The features of an image of the data set are computed once, if they fit into a
  fixed amount of memory.

  Args:
    setup: the setup of the point.
    item: the truth.
    seed: the seed of the experiment.
  """
  labels, case = setup.dataset.labels, item.case
  indices = [
    []
    if i == experiment.ELSEWHERE
    else cases.same_class(
      labels, i, seed=seed, case=case, count=iip.RIVALS
    ).tolist()
    for i in item.indices
  ]
  memory = _memory(setup.viewer, setup.dataset.take, same.Same(setup.variables))
  missing = sorted({i for one in indices for i in one} - memory.keys())
  fresh = {}
  for i in range(0, len(missing), _BLOCK):
    block = missing[i : i + _BLOCK]
    x = np.asarray(setup.dataset.take(block).x)
    fresh |= zip(block, view(setup, x).features)
  every = {**memory, **fresh}
  size = next((f.nbytes for f in every.values()), 0)
  if len(every) * size <= _REMEMBERED:
    memory |= fresh
  nothing = np.zeros((0, 1), np.float32)
  return [
    np.stack([every[i] for i in one]) if one else nothing for one in indices
  ]


def view(setup: experiment.Setup, x: npt.ArrayLike) -> Activations:
  """Returns what the agreed network computes from n >= 1 images."""
  look, x = _looker(setup.viewer), np.asarray(x)
  blocks = []
  for i in range(0, len(x), _BLOCK):
    block = x[i : i + _BLOCK]
    rest = [(0, _BLOCK - len(block)), (0, 0), (0, 0), (0, 0)]
    blocks.append(look(setup.variables, np.pad(block, rest)))
  return jax.tree.map(lambda *parts: np.concatenate(parts)[: len(x)], *blocks)


@functools.lru_cache(maxsize=4)
def _looker(
  viewer: Callable[[], models.Net],
) -> Callable[[types.Variables, npt.ArrayLike], Activations]:
  """Returns `(variables, x) -> Activations`, compiled once for all items."""
  net = viewer()
  tap = inspect.features(net)
  taps = () if tap is None else (tap,)

  def of_one(variables, x):
    output = net.apply(variables, x[None], taps=taps)
    out = jax.tree.map(lambda leaf: leaf[0], output.out)
    if tap is None:
      return Activations(jnp.zeros(0), out)
    return Activations(output.taps[tap].reshape(-1), out)

  # One after the other: in a batch, the bits of an image depend on its place.
  return jax.jit(
    lambda variables, x: jax.lax.map(lambda one: of_one(variables, one), x)
  )


@functools.lru_cache(maxsize=1)  # it keeps the weights alive
def _memory(viewer, take, variables) -> dict[int, np.ndarray]:
  """Returns the features that were computed already, by index of the image."""
  del viewer, take, variables  # whose memory it is
  return {}
