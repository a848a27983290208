"""From the table of metrics to the scores of one batch."""

from collections.abc import Mapping
import math
from typing import Any

import jax
import numpy as np

from giajax.metrics import base
from giajax.metrics import METRICS

# One program for all metrics that read only images, because most of their cost
# is the call.
_BLOCK, _BLOCK_PIXELS = 8, 1 << 15  # of one call
_IMAGES = {
  name: metric.score
  for name, metric in METRICS.items()
  if metric.of_images and metric.score
}
_of_images = jax.jit(
  lambda x, x_hat: {name: score(x, x_hat) for name, score in _IMAGES.items()}
)
# The metrics that a config asks for, by their names, and what it does so by.
OPTIONS = tuple(name for name, m in METRICS.items() if m.prepare)
KEYS = frozenset(
  key.partition('.')[0] for m in METRICS.values() for key in m.keys
)
# All other metrics, without those that are made of one of them.
ALWAYS = tuple(
  name
  for name, m in METRICS.items()
  if name not in OPTIONS and not {*OPTIONS} & {*m.needs}
)


def scorers(
  options: Mapping[str, Any], audited: base.Audited
) -> dict[str, base.Score]:
  """Returns the score functions of an experiment, by metric.

  Args:
    options: the config, or its part that has `KEYS`; a metric is not computed
      if one of its keys is absent or false.
    audited: the experiment.

  Raises:
    ValueError: a metric that was asked for cannot be computed here.
  """
  functions: dict[str, base.Score] = {}
  for name, metric in METRICS.items():
    values = [_value(options, key) for key in metric.keys]
    if metric.prepare and all(values):
      functions[name] = metric.prepare(audited, *values)
    elif metric.score and {*metric.needs} <= {*base.FACTS, *functions}:
      functions[name] = metric.score
  return functions


def _value(options: Mapping[str, Any], key: str) -> Any:
  """Returns what a config has under a dotted key; None for nothing."""
  section, _, inside = key.partition('.')
  value = options.get(section)
  return _value(value or {}, inside) if inside else value


def of_images(x: np.ndarray, x_hat: np.ndarray) -> dict[str, np.ndarray]:
  """Returns the metrics [n] that read only images and need no preparation.

  Small images are scored eight at a time, so that any number of them takes one
  compilation and few calls.

  Args:
    x: [n, H, W, C] true images, n >= 1.
    x_hat: [n, H, W, C] guesses.
  """
  pixels = math.prod(x.shape[1:3])
  size = max(1, min(_BLOCK, _BLOCK_PIXELS // pixels))
  blocks = []
  for i in range(0, len(x), size):
    pair = [a[i : i + size] for a in (x, x_hat)]
    rest = size - len(pair[0])
    if rest:
      pair = [np.concatenate([a, a[-1:].repeat(rest, axis=0)]) for a in pair]
    blocks.append(_of_images(*pair))
  return {
    name: np.concatenate([block[name] for block in blocks])[: len(x)]
    for name in blocks[0]
  }


def scores(
  functions: Mapping[str, base.Score | None],
  facts: Mapping[str, Any],
  about: str,
  size: int,
) -> dict[str, np.ndarray]:
  """Returns the values [B] of every metric, in the order of the table.

  Args:
    functions: the functions that `scorers` returns; a metric whose function is
      None is NaN.
    facts: the known facts, by their names in `base.FACTS`; a metric that needs
      more is NaN. Scores that are known already are not computed again.
    about: the metrics to compute, 'guess' or 'batch'.
    size: the number of images B.
  """
  memo, values = dict(facts), {}
  for name, score in functions.items():
    metric = METRICS[name]
    if metric.about != about:
      continue
    computable = score and all(need in memo for need in metric.needs)
    if name not in memo and computable:
      memo[name] = score(*(memo[need] for need in metric.needs))
    value = memo.setdefault(name, np.full(size, np.nan))
    values[name] = np.asarray(value, np.float32)
  return values
