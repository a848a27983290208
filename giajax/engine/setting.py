"""How much a setting helps the attack: the rules of `threat`, and measurement.

Whether weights are trained is measured on a sample of the data set, and not
concluded from where they come from.
"""

from collections.abc import Callable
import functools
import math
from typing import Any

import numpy as np

from giajax import threat
from giajax.data import cases
from giajax.engine import experiment
from giajax.engine import features
from giajax.models import inspect

_CLASSIFIED = 64  # the largest number of images of the sample


def describe(
  setup: experiment.Setup, seed: int, *, known_before: bool = False
) -> dict[str, Any]:
  """Returns the columns 'setting', 'setting_reasons' and 'accuracy'.

  Args:
    setup: the setup of the point.
    seed: the seed of the sample.
    known_before: whether the auxiliary data hold an image of the batch.

  Raises:
    ValueError: an image of the sample that cannot be read.
  """
  rules, accuracy = _measured(features.Same(setup), seed)
  word, reasons = rules(known_before=known_before)
  return {
    'setting': word,
    'setting_reasons': reasons,
    'accuracy': accuracy,
  }


@functools.lru_cache(maxsize=1)  # it keeps the weights alive
def _measured(
  same: features.Same, seed: int
) -> tuple[Callable[..., tuple[str, list[str]]], float]:
  """Returns `threat.setting` with all that a setup decides, and accuracy."""
  setup = same.value
  trained, accuracy = setup.source.trained, math.nan
  if setup.dataset.size:
    right, total = _classified(setup, seed)
    shares = np.bincount(setup.dataset.labels) / setup.dataset.size
    chance = max(float(shares.max()), 1 / setup.dataset.num_classes)
    accuracy = right / total
    if trained is None:
      trained = threat.is_trained(right, total, chance)
  rules = functools.partial(
    threat.setting,
    train_mode=setup.client.train_mode,
    batch_size=setup.world.batch_size,
    granted=setup.granted & setup.attack.needs,
    trained=trained,
    captured=setup.source.update is not None,
    has_batch_norm=inspect.has_batch_norm(setup.world.net),
    num_rounds=setup.attack.num_rounds,
    altered=setup.world.net.spec.altered,
  )
  return rules, accuracy


def _classified(setup: experiment.Setup, seed: int) -> tuple[int, int]:
  """Returns how many images of a sample the agreed network gets right."""
  indices = cases.held_out(
    setup.dataset.size, (), seed=seed, case=0, count=_CLASSIFIED
  )
  batch = setup.dataset.take(indices)
  guesses = features.view(setup, batch.x).logits.argmax(axis=1)
  return int(np.sum(guesses == np.asarray(batch.y))), len(indices)
