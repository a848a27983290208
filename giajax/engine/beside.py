"""What stands beside every attack on an update: guesses made without it.

Attacks on one update differ between the points of a sweep; the true images, the
guesses and their scores do not, and are computed once for each case.
"""

from collections.abc import Iterator, Mapping, Sequence
import functools
import itertools
from typing import Any, NamedTuple

import numpy as np

from giajax import same
from giajax.engine import experiment
from giajax.engine import features
from giajax.engine import guesses
from giajax.metrics import scoring

_REMEMBERED = 2e8  # bytes of images that are kept for later points


class Beside(NamedTuple):
  """What is known of one update, whatever the attack makes of it.

  Attributes:
    images: the guesses, [B, H, W, C] by `metrics.baselines.BASELINES`.
    facts: facts about the true images, by `metrics.base.FACTS`.
    scores: the metrics [B] of each guess, by their names.
  """

  images: Mapping[str, np.ndarray]
  facts: Mapping[str, Any]
  scores: Mapping[str, Mapping[str, np.ndarray]]


def of_item(
  setup: experiment.Setup, item: experiment.Item, seed: int
) -> Beside:
  """Returns what stands beside an update whose images are known.

  Args:
    setup: the setup of the point.
    item: the truth.
    seed: the seed of the experiment.

  Raises:
    ValueError: an image that cannot be read.
  """
  memory = _memory(same.Same(setup), seed)
  if item.case in memory:
    return memory[item.case]
  made = _of_item(setup, item, seed)
  size = item.batch.x.nbytes * (1 + len(made.images))
  if size * (1 + len(memory)) <= _REMEMBERED:
    memory[item.case] = made
  return made


def look(
  setup: experiment.Setup,
  guessed: Sequence[tuple[np.ndarray, Mapping[str, np.ndarray]]],
) -> list[dict[str, dict[str, np.ndarray]]]:
  """Returns what only the pixels decide, for many updates at once.

  Args:
    setup: the setup of the point.
    guessed: the true images of each update and the guesses at them, all of
      them [B, H, W, C]; image i of each is meant to be image i.

  Returns:
    For each update and guess its 'x_hat', its metrics that read only images,
    and 'features_hat' if the network can report its features.
  """
  pairs = [(x, x_hat) for x, own in guessed for x_hat in own.values()]
  if not pairs:
    return [{} for _ in guessed]
  x, x_hat = map(np.concatenate, zip(*pairs))
  facts = {**scoring.of_images(x, x_hat), **features.hat(setup, x_hat)}
  each = (
    {k: v[i : i + len(p)] for k, v in facts.items()} | {'x_hat': p}
    for i, p in _places(pairs)
  )
  return [{name: next(each) for name in own} for _, own in guessed]


def _places(pairs) -> Iterator[tuple[int, np.ndarray]]:
  """Yields where each guess begins among all images, and the guess."""
  sizes = [len(x_hat) for _, x_hat in pairs]
  begins = itertools.accumulate(sizes, initial=0)
  return ((i, x_hat) for i, (_, x_hat) in zip(begins, pairs))


def scores(
  setup: experiment.Setup,
  facts: Mapping[str, Any],
  seen: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, dict[str, np.ndarray]]:
  """Returns the metrics [B] of guesses, by their names.

  Args:
    setup: the setup of the point.
    facts: facts about the true images.
    seen: what `look` returns for the guesses.
  """
  return {
    name: scoring.scores(
      setup.scorers, {**facts, **own}, 'guess', len(own['x_hat'])
    )
    for name, own in seen.items()
  }


def _of_item(setup, item, seed) -> Beside:
  images = guesses.of_item(setup, item, seed)
  x = item.batch.x
  (seen,) = look(setup, [(x, images)])
  facts = {'x': x, 'batch': item.batch, **prior(seen)}
  facts |= _content(setup, item) | features.facts(setup, item, seed)
  return Beside(images, facts, scores(setup, facts, seen))


def prior(
  scores: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
  """Returns what is known about the mean image, if there is one.

  Args:
    scores: the metrics of guesses, by their names.
  """
  mean = scores.get('mean_image')
  return {} if mean is None else {'ssim_mean_image': mean['ssim']}


def _content(setup, item) -> dict[str, np.ndarray]:
  """Returns where the images are in their letterboxes, if that is known."""
  if experiment.ELSEWHERE in item.indices:
    return {}
  return {'content': setup.dataset.content_of(item.indices)}


@functools.lru_cache(maxsize=1)  # it keeps images alive
def _memory(setup: same.Same, seed: int) -> dict[int, Beside]:
  """Returns what was computed already, by case."""
  del setup, seed  # whose memory it is
  return {}
