"""What the audited network sees in images, and what FMSE and IIP say of it.

Features are what the classifier reads, in inference mode, with the weights that
the server sent. No attack may see them of the true images.
"""

from collections.abc import Callable, Iterator, Mapping
import functools
from typing import NamedTuple

import jax
import numpy as np

from giajax.data import cases
from giajax.engine import experiment
from giajax.engine.sources import simulated
from giajax.metrics import fmse
from giajax.metrics import iip
from giajax.models import base as models
from giajax.models import inspect

# Other images of its class that an image has to be told from, at most. All
# experiments take the same number, as IIP falls with it.
RIVALS = 15
_BLOCK = 8  # images a pass: any number of them takes one compilation


class Compared(NamedTuple):
  """Scores by the network.

  Attributes:
    scores: [B] 'fmse' and 'iip' by the name of a guess. NaN is what cannot be
      told: everything, if the network cannot tell its features, and 'iip' of
      an image that is alone in its class.
    chance: 'iip' of somebody who draws one of the candidates; None if there
      are none.
  """

  scores: dict[str, dict[str, np.ndarray]]
  chance: float | None


def compare(
  setup: experiment.Setup,
  item: simulated.Item,
  guesses: Mapping[str, np.ndarray],
  seed: int,
) -> Compared:
  """Compares guesses with the true images.

  Args:
    setup: of the point.
    item: the truth.
    guesses: [B, H, W, C] by name; image i of each is meant to be image i.
    seed: the experiment's.
  """
  size = len(item.indices)
  see = _extractor(setup.viewer)
  if see is None:
    nothing = {name: np.full(size, np.nan) for name in ('fmse', 'iip')}
    return Compared(dict.fromkeys(guesses, nothing), None)
  images = np.concatenate([item.batch.x, *guesses.values()])
  blocks = (images[i : i + _BLOCK] for i in range(0, len(images), _BLOCK))
  seen = _features(see, setup, blocks)
  truth, *found = seen.reshape(-1, size, seen.shape[-1])
  rivals = _rivals(see, setup, item, seed)
  scores = {
    name: {'fmse': fmse.fmse(truth, f), 'iip': _identified(truth, f, rivals)}
    for name, f in zip(guesses, found)
  }
  chances = [1 / (len(r) + 1) for r in rivals if len(r)]
  return Compared(scores, float(np.mean(chances)) if chances else None)


@functools.lru_cache(maxsize=4)
def _extractor(viewer: Callable[[], models.Net]) -> Callable | None:
  """Returns `(variables, x) -> [n, F]`, compiled once for all items."""
  net = viewer()
  tap = inspect.features(net)
  if tap is None:
    return None

  @jax.jit
  def see(variables, x):
    taps = net.apply(variables, x, taps=(tap,)).taps
    return taps[tap].reshape(len(x), -1)

  return see


def _features(
  see: Callable, setup: experiment.Setup, blocks: Iterator[np.ndarray]
) -> np.ndarray:
  """Returns the features [n, F] of blocks of at most `_BLOCK` images."""
  seen = []
  for x in blocks:
    rest = [(0, _BLOCK - len(x)), (0, 0), (0, 0), (0, 0)]
    seen.append(np.asarray(see(setup.variables, np.pad(x, rest)))[: len(x)])
  return np.concatenate(seen)


def _rivals(
  see: Callable, setup: experiment.Setup, item: simulated.Item, seed: int
) -> list[np.ndarray]:
  """Returns the features [at most RIVALS, F] of each image's rivals."""
  drawn = [
    cases.same_class(
      setup.dataset.labels, i, seed=seed, case=item.case, count=RIVALS
    )
    for i in item.indices
  ]
  unique = np.unique(np.concatenate(drawn))
  if not unique.size:
    return [np.zeros((0, 1)) for _ in drawn]
  blocks = (
    np.asarray(setup.dataset.take(unique[i : i + _BLOCK]).x)
    for i in range(0, len(unique), _BLOCK)
  )
  seen = _features(see, setup, blocks)
  return [seen[np.searchsorted(unique, one)] for one in drawn]


def _identified(truth, found, rivals) -> np.ndarray:
  return np.array(
    [
      iip.identified(f, t, r) if len(r) else np.nan
      for t, f, r in zip(truth, found, rivals)
    ]
  )
