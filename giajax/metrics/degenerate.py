"""Updates that cannot give an image away, and therefore test no attack.

A classifier that is saturated, a network whose units are all dead, or a defence
that makes every entry the same makes it look as if the attack had been
resisted. The rules look at the update alone, as the attacker does.
"""

from collections.abc import Iterator

import numpy as np

from giajax import trees
from giajax import types

# Squares of smaller values vanish in float32, and with them every distance.
_ZERO = float(np.sqrt(np.finfo(np.float32).tiny))
_ROUNDING = 1e-5  # of a float32 product, as a share of the norm


def reason(delta: types.Tree, batch_size: int) -> str:
  """Returns why an update holds no image or only one, '' where it may.

  Args:
    delta: what the client sent, or what an attack merged from its rounds.
    batch_size: the number of images behind it.
  """
  leaves = [np.asarray(v) for v in trees.named_leaves(delta).values()]
  leaves = [leaf for leaf in leaves if leaf.size]
  if all(np.abs(leaf).max() < _ZERO for leaf in leaves):
    return 'the update is zero'
  if _constant(leaves):
    return 'every array of the update holds one value only'
  weights = [leaf for leaf in leaves if leaf.ndim > 1]
  if weights and all(np.abs(leaf).max() < _ZERO for leaf in weights):
    return 'the update is zero for all weights, and only biases changed'
  matrices = list(_matrices(weights))
  if (
    batch_size > 1
    and any(map(_is_broad, matrices))
    and all(map(_rank_one, matrices))
  ):
    return (
      'all weights of the update have rank one, as for a single image '
      f'instead of {batch_size}'
    )
  return ''


def _constant(leaves: list[np.ndarray]) -> bool:
  several = [leaf for leaf in leaves if leaf.size > 1]
  return bool(several) and all(
    np.ptp(leaf) <= _ROUNDING * np.abs(leaf).max() for leaf in several
  )


def _matrices(weights: list[np.ndarray]) -> Iterator[np.ndarray]:
  """Yields the arrays that could have a rank above one, as matrices."""
  for leaf in weights:
    matrix = leaf.reshape(-1, leaf.shape[-1]).astype(np.float32)
    if min(matrix.shape) > 1:
      yield matrix


def _is_broad(matrix: np.ndarray) -> bool:
  """Returns whether several rows and columns hold something.

  The rank of others, of which a defence left a few entries, tells nothing.
  """
  return all(np.any(matrix, axis=axis).sum() > 1 for axis in (0, 1))


def _rank_one(matrix: np.ndarray) -> bool:
  """Returns whether all rows are multiples of the longest row, or zero."""
  squares = np.square(matrix).sum(1)
  longest = np.argmax(squares)
  if squares[longest] == 0:
    return True
  row = matrix[longest]
  rest = matrix - np.outer(matrix @ row / squares[longest], row)
  return bool(np.linalg.norm(rest) <= _ROUNDING * np.linalg.norm(matrix))
