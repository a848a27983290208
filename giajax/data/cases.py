"""Which images form a client's batch: decided by (seed, case) and a rule.

A case's draw never depends on other cases, so that any shard of an experiment
sees the same batches. A rule is a function
`(generator, labels [size], batch_size, given) -> indices [B]`.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from giajax import registry
from giajax.data import base

_Rule = Callable[
  [np.random.Generator, np.ndarray, int, npt.ArrayLike | None], np.ndarray
]


def indices(
  labels: npt.ArrayLike,
  *,
  seed: int,
  case: int,
  batch_size: int,
  rule: str = 'random',
  given: npt.ArrayLike | None = None,
) -> np.ndarray:
  """Returns which images form the batch of a case, [B] int32, all different.

  Args:
    labels: [size] int32 labels of the data set.
    seed: the experiment's seed, at least 0.
    case: number of the case, at least 0.
    batch_size: B.
    rule: a name in `RULES`.
    given: [B] indices, for the rule 'given' only: the same in every case.

  Raises:
    ValueError: an unknown rule, a negative seed or case, a batch that the
      data set cannot fill under the rule, or `given` without its rule, of
      another length, repeated or out of range.
  """
  draw = registry.lookup(RULES, rule, 'rule')
  labels = np.asarray(labels)
  if not 1 <= batch_size <= len(labels):
    raise ValueError(
      f'Expected a batch_size of 1 to {len(labels)}, the size of the data '
      f'set; got batch_size={batch_size}; choose one in between'
    )
  if (given is not None) != (rule == 'given'):
    raise ValueError(
      "Expected indices in given exactly when rule='given'; got "
      f'rule={rule!r}, given={given}; set both or neither'
    )
  found = draw(_generator(seed, case), labels, batch_size, given)
  return found.astype(np.int32)


def held_out(
  size: int, taken: npt.ArrayLike, *, seed: int, case: int, count: int
) -> np.ndarray:
  """Returns images outside a batch, for baselines and proxy data.

  Args:
    size: of the data set.
    taken: [B] indices of the batch.
    seed: the experiment's seed, at least 0.
    case: number of the case, at least 0.
    count: how many to draw at most.

  Returns:
    [min(count, size - B)] int32, all different.

  Raises:
    ValueError: the batch is the whole data set, or `count` is below 1.
  """
  left = np.setdiff1d(np.arange(size), taken)
  if not left.size or count < 1:
    raise ValueError(
      'Expected images outside the batch and a count of at least 1; got '
      f'size={size}, batch_size={np.size(taken)}, count={count}; use a '
      'smaller batch or a larger data set'
    )
  generator = _generator(seed, case, 1)  # a stream beside the batch's own
  return generator.permutation(left)[:count].astype(np.int32)


def same_class(
  labels: npt.ArrayLike, index: int, *, seed: int, case: int, count: int
) -> np.ndarray:
  """Returns other images of an image's class, whether in its batch or not.

  Args:
    labels: [size] int32 labels of the data set.
    index: of the image.
    seed: the experiment's seed, at least 0.
    case: number of the case, at least 0.
    count: how many to draw at most, at least 1.

  Returns:
    [min(count, members of the class - 1)] int32, all different; empty for an
    image that is alone in its class.
  """
  labels = np.asarray(labels)
  others = np.setdiff1d(np.flatnonzero(labels == labels[index]), index)
  generator = _generator(seed, case, 2, index)
  return generator.permutation(others)[:count].astype(np.int32)


def _generator(seed: int, *path: int) -> np.random.Generator:
  if seed < 0 or min(path) < 0:
    raise ValueError(
      f'Expected a seed and a case of at least 0; got seed={seed}, '
      f'case={path[0]}; choose others'
    )
  return np.random.default_rng(np.random.SeedSequence([seed, *path]))


def _random(
  generator: np.random.Generator,
  labels: np.ndarray,
  batch_size: int,
  given: npt.ArrayLike | None,
) -> np.ndarray:
  """Any images."""
  del given
  return generator.choice(len(labels), batch_size, replace=False)


def _unique_labels(
  generator: np.random.Generator,
  labels: np.ndarray,
  batch_size: int,
  given: npt.ArrayLike | None,
) -> np.ndarray:
  """One image a class, of classes drawn at random."""
  del given
  classes = np.unique(labels)
  if batch_size > len(classes):
    raise ValueError(
      f'Expected batch_size <= {len(classes)}, the classes there are, for '
      f"rule='unique_labels'; got batch_size={batch_size}; lower it or use "
      "rule='random'"
    )
  drawn = generator.choice(classes, batch_size, replace=False)
  return np.array(
    [generator.choice(np.flatnonzero(labels == c)) for c in drawn]
  )


def _same_label(
  generator: np.random.Generator,
  labels: np.ndarray,
  batch_size: int,
  given: npt.ArrayLike | None,
) -> np.ndarray:
  """Images of one class, drawn among those that hold enough."""
  del given
  classes, counts = np.unique(labels, return_counts=True)
  if batch_size > counts.max():
    raise ValueError(
      f'Expected batch_size <= {counts.max()}, the size of the largest class, '
      f"for rule='same_label'; got batch_size={batch_size}; lower it or use "
      "rule='random'"
    )
  drawn = generator.choice(classes[counts >= batch_size])
  members = np.flatnonzero(labels == drawn)
  return generator.choice(members, batch_size, replace=False)


def _given(
  generator: np.random.Generator,
  labels: np.ndarray,
  batch_size: int,
  given: npt.ArrayLike | None,
) -> np.ndarray:
  """The images the user names."""
  del generator
  found = base.check_indices(given if given is not None else (), len(labels))
  if len(found) != batch_size or len(np.unique(found)) != batch_size:
    raise ValueError(
      f'Expected {batch_size} different indices, one an image of the batch; '
      f'got given={found.tolist()}; correct given or batch_size'
    )
  return found


RULES: dict[str, _Rule] = {
  'random': _random,
  'unique_labels': _unique_labels,
  'same_label': _same_label,
  'given': _given,
}
