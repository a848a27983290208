"""Looking at weights: the layers that arrived, and how they compare.

`of_classifier` and `of_layers` make whole verifiers from a function that judges
the classifier, or scores one layer.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from giajax import trees
from giajax import types
from giajax.models import base as models
from giajax.models import inspect
from giajax.verify import base

_TINY = 1e-30
_BLOCK = 512  # rows whose cosines with all others are in memory at once


class Kernel(NamedTuple):
  """The weights of a convolution or of a linear layer, as received."""

  name: str  # the path of its layer
  weight: np.ndarray  # [..., inputs, units]
  bias: np.ndarray | None  # [units]

  @property
  def rows(self) -> np.ndarray:
    """The weights of each unit, [units, inputs of one unit]."""
    return self.weight.reshape(-1, self.weight.shape[-1]).T


def kernels(message: types.ServerMessage) -> Iterator[Kernel]:
  """Yields the received convolutions and linear layers, surplus ones too."""
  leaves = trees.named_leaves(models.whole(message.variables))
  for name, leaf in leaves.items():
    path, _, last = name.rpartition('.')
    if last == 'kernel' and leaf.ndim >= 2:
      bias = leaves.get(f'{path}.bias')
      bias = None if bias is None else np.asarray(bias)
      yield Kernel(path, np.asarray(leaf), bias)


def of_classifier(
  view: base.View, judge: Callable[[Kernel], base.Verdict]
) -> base.Verifier:
  """Returns the verifier that looks at the weights of the classifier.

  Args:
    view: what the client knows.
    judge: a function that returns the verdict on the received classifier.
  """

  def verify(
    key: types.Array, message: types.ServerMessage, probe: types.Batch
  ) -> base.Verdict:
    del key, probe
    head = next(
      (k for k in kernels(message) if k.name == view.classifier), None
    )
    return base.not_run('No classifier.') if head is None else judge(head)

  return verify


def of_layers(
  score: Callable[[types.Array, Kernel], float | None],
  threshold: float,
  words: str,
  nothing: str,
) -> base.Verifier:
  """Returns the verifier that scores layers one by one and reports the worst.

  Args:
    score: a function that returns the score of a layer, or None for a layer
      that is passed over; a score below 0 counts as 0. It may draw from the
      key.
    threshold: the score above which a layer is flagged.
    words: the sentence, with {name}, {score} and {limit}.
    nothing: the sentence if every layer is passed over.
  """

  def verify(
    key: types.Array, message: types.ServerMessage, probe: types.Batch
  ) -> base.Verdict:
    del probe
    scores = {k.name: score(key, k) for k in kernels(message)}
    positive = {n: max(0.0, s) for n, s in scores.items() if s is not None}
    return base.worst_layer(positive, threshold, words, nothing)

  return verify


def agreed_variables(
  view: base.View, message: types.ServerMessage
) -> types.Variables | None:
  """Returns the received weights of `view.net`, None if some are missing.

  Surplus weights, of layers that this network lacks, are left out.
  """
  return select(message.variables, inspect.abstract_variables(view.net))


def change(
  view: base.View, message: types.ServerMessage
) -> tuple[types.Variables, types.Variables] | base.Verdict:
  """Returns the accepted and the received weights, or why one is missing."""
  if view.accepted is None:
    return base.not_run('There are no weights accepted before.')
  after = agreed_variables(view, message)
  before = None if after is None else select(view.accepted, after)
  if before is None or after is None:
    return base.OTHER_WEIGHTS
  return before, after


def select(
  variables: types.Variables, like: types.Variables
) -> types.Variables | None:
  """Returns the leaves that `like` has, too; None if one is missing.

  Args:
    variables: the variables to choose from.
    like: the arrays or shapes whose names and shapes decide.
  """
  parts = []
  for part, template in zip(variables, like):
    leaves = trees.named_leaves(part)
    for name, leaf in trees.named_leaves(template).items():
      if name not in leaves or leaves[name].shape != leaf.shape:
        return None
    parts.append(trees.like(template, leaves))
  return types.Variables(*parts)


def sample(key: types.Array, size: int, most: int) -> np.ndarray:
  """Returns indices of units to look at: all, or `most` unpredictable ones.

  Args:
    key: the key of the check.
    size: the number of units.
    most: the number of units that are looked at.
  """
  if size <= most:
    return np.arange(size)
  rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
  return rng.choice(size, most, replace=False)


def nearest(rows: np.ndarray) -> np.ndarray:
  """Returns the largest |cosine| of each row with another, [rows].

  Rows of zeros, which training may leave, are left out.
  """
  norms = np.linalg.norm(rows, axis=1)
  live = norms > 1e-6 * max(norms.max(initial=0.0), _TINY)
  unit = rows[live] / norms[live, None]
  if len(unit) < 2:
    return np.zeros(0)
  best = []
  for first in range(0, len(unit), _BLOCK):
    cosine = np.abs(unit[first : first + _BLOCK] @ unit.T)
    diagonal = np.arange(len(cosine))
    cosine[diagonal, first + diagonal] = 0
    best.append(cosine.max(1))
  return np.minimum(np.concatenate(best), 1.0)
