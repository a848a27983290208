"""Jaccard similarity of the tags that a tagger gives to two images.

  J = |A & B| / |A | B|

A and B are the tags of the true image and of its reconstruction: the classes
among the k best scores of a multi-label network that lie above a threshold.
Yue, Jin, Wong, Baron and Dai, "Gradient obfuscation gives a false sense of
security in federated learning", USENIX Security 2023, arXiv:2206.04055, to say
what an image is about although its pixels are off; their code reads the tags
off a TResNet. Guo et al., TPAMI 2025, arXiv:2503.11514, report it with
reference to them; their released code does not compute it, and their k and
threshold are not known.

No tagger ships with this package, and the audited network is none, so the
engine does not compute it: bring the scores of yours.
"""

import numpy as np
import numpy.typing as npt


def jaccard(
  true: npt.ArrayLike,
  found: npt.ArrayLike,
  *,
  count: int,
  threshold: float,
) -> np.ndarray:
  """Returns the overlap of the tags of each pair, [B] float32 in [0, 1].

  0 where neither image has a tag, as nothing was recognised.

  Args:
    true: [B, K] scores of the true images.
    found: [B, K] scores of the reconstructions; NaN is no tag.
    count: how many tags an image has at most, 1 to K.
    threshold: what a tag's score must exceed.

  Raises:
    ValueError: the shapes differ, or the count is out of range.
  """
  true, found = np.asarray(true), np.asarray(found)
  if true.ndim != 2 or true.shape != found.shape:
    raise ValueError(
      f'Expected scores [B, K] of both; got true.shape={true.shape}, '
      f'found.shape={found.shape}; score both by one tagger'
    )
  if not 1 <= count <= true.shape[1]:
    raise ValueError(
      f'Expected a count of 1 to {true.shape[1]}, the classes there are; got '
      f'count={count}; choose one in between'
    )
  a, b = (_tags(scores, count, threshold) for scores in (true, found))
  union = np.sum(a | b, axis=1)
  return (np.sum(a & b, axis=1) / np.maximum(union, 1)).astype(np.float32)


def _tags(scores: np.ndarray, count: int, threshold: float) -> np.ndarray:
  """Returns which classes are an image's tags, [B, K] bool."""
  scores = np.where(np.isnan(scores), -np.inf, scores)
  best = np.argsort(-scores, axis=1, kind='stable')[:, :count]
  tags = np.zeros(scores.shape, bool)
  np.put_along_axis(tags, best, True, axis=1)
  return tags & (scores > threshold)
