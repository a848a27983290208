"""What stands beside every attack on an update: guesses made without it.

Attacks on one update differ between the points of a sweep; the true images, the
guesses and their scores do not, and are computed once for each case.
"""

from collections.abc import Mapping
import functools
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


def scores(
  setup: experiment.Setup,
  facts: Mapping[str, Any],
  images: Mapping[str, np.ndarray],
) -> dict[str, dict[str, np.ndarray]]:
  """Returns the metrics [B] of further guesses, by their names.

  Args:
    setup: the setup of the point.
    facts: facts about the true images.
    images: [B, H, W, C] by name; image i of each is meant to be image i.
  """
  own = {n: scoring.of_images(facts['x'], x) for n, x in images.items()}
  return _scores(setup, facts, images, own)


def _of_item(setup, item, seed) -> Beside:
  images = guesses.of_item(setup, item, seed)
  x = item.batch.x
  own = {name: scoring.of_images(x, x_hat) for name, x_hat in images.items()}
  facts = {'x': x, 'batch': item.batch, **prior(own)}
  facts |= _content(setup, item) | features.facts(setup, item, seed)
  return Beside(images, facts, _scores(setup, facts, images, own))


def _scores(setup, facts, images, own):
  """Returns the same; `own` are the metrics that read only images."""
  seen = features.of_guesses(setup, images)
  return {
    name: scoring.scores(
      setup.scorers,
      {**facts, **seen[name], **own[name], 'x_hat': x_hat},
      'guess',
      len(x_hat),
    )
    for name, x_hat in images.items()
  }


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
