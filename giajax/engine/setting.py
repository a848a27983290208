"""How much a setting helps the attack: the rules of `threat`, and measurement.

Whether weights are trained is measured on a sample of the data set, and not
concluded from where they come from.
"""

from collections.abc import Callable
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from giajax import same
from giajax import threat
from giajax import trees
from giajax import types
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
  rules, accuracy = _measured(same.Same(setup), seed)
  word, reasons = rules(known_before=known_before)
  return {
    'setting': word,
    'setting_reasons': reasons,
    'accuracy': accuracy,
  }


@functools.lru_cache(maxsize=1)  # it keeps the weights alive
def _measured(
  of: same.Same, seed: int
) -> tuple[Callable[..., tuple[str, list[str]]], float]:
  """Returns `threat.setting` with all that a setup decides, and accuracy."""
  setup = of.value
  trained, accuracy = setup.source.trained, math.nan
  if setup.dataset.size:
    exclusive = setup.world.task.exclusive
    measure = _classified if exclusive else _recognised
    right, total, chance, accuracy = measure(setup, seed)
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


def _classified(
  setup: experiment.Setup, seed: int
) -> tuple[int, int, float, float]:
  """Returns how many of a sample are classified rightly, of how many.

  And the share that the most frequent class has, and that of the right ones.
  """
  batch, out = _sample(setup, seed)
  right = int(np.sum(out.argmax(axis=1) == np.asarray(batch.y)))
  shares = np.bincount(setup.dataset.labels) / setup.dataset.size
  chance = max(float(shares.max()), 1 / setup.dataset.num_classes)
  return right, len(batch.x), chance, right / len(batch.x)


def _recognised(
  setup: experiment.Setup, seed: int
) -> tuple[int, int, float, float]:
  """Returns the same where targets are no classes.

  An image counts as right if what the network returns for it suits its target
  better than what it returns for the next image does. Whatever an untrained
  network returns, that is so for half of them.
  """
  batch, out = _sample(setup, seed)
  task = setup.world.task
  others = jax.tree.map(lambda leaf: np.roll(leaf, 1, axis=0), out)

  def of_one(out, y):
    return task.loss(trees.single(out), trees.single(y))

  losses = jax.jit(jax.vmap(of_one))
  right = np.asarray(losses(out, batch.y) < losses(others, batch.y))
  accuracy = math.nan
  if task.predict is not None:
    guesses = task.harden(task.predict(jax.tree.map(jnp.asarray, out)))
    accuracy = float(np.mean(task.same(batch.y, guesses)))
  return int(right.sum()), len(right), 0.5, accuracy


def _sample(setup: experiment.Setup, seed: int) -> tuple[types.Batch, Any]:
  """Returns a sample of the data set, and what the network makes of it."""
  indices = cases.held_out(
    setup.dataset.size, (), seed=seed, case=0, count=_CLASSIFIED
  )
  batch = setup.dataset.take(indices)
  return batch, features.view(setup, batch.x).out
