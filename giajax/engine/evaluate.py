"""Scoring: the only place where the truth meets a reconstruction.

The restart was chosen before, by the attacker's own score; here images are
assigned within their batch, measured, and set beside what trivial guesses
reach. The oracle's choice is reported under its own name.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from giajax import types
from giajax.data import cases
from giajax.engine import build
from giajax.engine import round as rounds
from giajax.metrics import assignment
from giajax.metrics import baselines
from giajax.metrics import METRICS
from giajax.metrics import success

_SAMPLE = 256  # images that the mean image is made of, at most
_PIXEL = ('mse', 'psnr', 'ssim')

_measure = jax.jit(lambda a, b: {name: METRICS[name](a, b) for name in _PIXEL})


def choose(scores: types.Array, finite: np.ndarray) -> int:
  """Returns the finite restart of lowest score; 0 where there is none."""
  values = np.asarray(scores)
  usable = finite & np.isfinite(values)
  return int(np.argmin(np.where(usable, values, np.inf)))


def evaluate(
  setup: build.Setup,
  item: rounds.Item,
  found: types.Reconstruction,
  start: types.Reconstruction,
  finite: np.ndarray,
  seed: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Scores one item.

  Args:
    setup: of the point.
    item: the truth.
    found: the reconstructions of R restarts, host arrays.
    start: the read-out of the R starts.
    finite: [R] bool, restarts that stayed finite.
    seed: the experiment's.

  Returns:
    A row of results, to be completed by `conclude`, and the arrays behind it.
  """
  truth = item.batch
  chosen = choose(found.score, finite)
  slots = assignment.assign(truth.x, found.batch.x[chosen], found.valid[chosen])
  x_hat = _take(found.batch.x[chosen], slots)
  y_hat = _take_labels(found.batch.y[chosen], slots)
  origin, x_start = _start(setup, truth, start, chosen)
  guesses = {origin: x_start, **_guesses(setup, item, seed)}
  values = _scores(truth.x, x_hat)
  row = {
    'score': float(found.score[chosen]),
    **{name: float(np.mean(values[name])) for name in _PIXEL},
    'lpips': _lpips(setup, truth.x, x_hat),
    'label_accuracy': success.matched_label_accuracy(
      truth.y, found.batch.y[chosen], slots
    ),
    'psnr_oracle': _oracle(truth, found),
    'finite_restarts': int(finite.sum()),
    'baselines': {n: _listed(_scores(truth.x, x)) for n, x in guesses.items()},
  }
  arrays = {
    'x': truth.x,
    'y': truth.y,
    'x_hat': x_hat,
    'y_hat': y_hat,
    'x_start': x_start,
    'psnr': values['psnr'],
    'ssim': values['ssim'],
    'scores': found.score,
    'finite': finite,
    'chosen': np.int32(chosen),
  }
  return row, arrays


def conclude(
  row: dict[str, Any],
  arrays: Mapping[str, np.ndarray],
  control: np.ndarray | None,
) -> dict[str, Any]:
  """Returns a row with all its baselines and the verdict.

  Args:
    row: from `evaluate`, with the scores of each image in its baselines.
    arrays: of that row.
    control: [M, H, W, C] what the attack made of noise, or None.
  """
  beside = dict(row['baselines'])
  if control is not None:
    valid = np.ones(len(control), bool)
    x = _assigned(arrays['x'], control, valid)
    beside['noise_gradient'] = _listed(_scores(arrays['x'], x))
  means = {
    name: {metric: float(np.mean(v)) for metric, v in values.items()}
    for name, values in beside.items()
  }
  return {**row, 'baselines': means, 'verdict': _verdict(arrays, beside)}


def _scores(truth, x) -> Mapping[str, np.ndarray]:
  return jax.tree.map(np.asarray, _measure(truth, x))


def _listed(values) -> dict[str, list[float]]:
  return {metric: values[metric].tolist() for metric in ('psnr', 'ssim')}


def _start(setup, truth, start, chosen) -> tuple[str, np.ndarray]:
  """The start of the optimisation; grey for a closed form, which has none."""
  if not setup.attack.num_steps:
    return 'grey_image', np.full_like(truth.x, 0.5)
  x = _assigned(truth.x, start.batch.x[chosen], start.valid[chosen])
  return 'start', x


def _oracle(truth, found) -> float:
  """PSNR of the restart that somebody who knows the truth would choose."""
  restarts = range(len(found.score))
  return max(
    _psnr_assigned(truth.x, found.batch.x[r], found.valid[r]) for r in restarts
  )


def _psnr_assigned(truth, x, valid) -> float:
  psnr = np.mean(_scores(truth, _assigned(truth, x, valid))['psnr'])
  return float(psnr) if np.isfinite(psnr) else float('-inf')


def _assigned(truth, x, valid) -> np.ndarray:
  return _take(x, assignment.assign(truth, x, valid))


def _take(x, slots) -> np.ndarray:
  """The slot of each image; grey where nothing was claimed."""
  return np.where((slots >= 0)[:, None, None, None], x[slots], np.float32(0.5))


def _take_labels(y, slots) -> np.ndarray:
  return np.where(slots >= 0, y[slots], -1).astype(np.int32)


def _guesses(setup, item, seed) -> dict[str, np.ndarray]:
  """What could be guessed from other images of the data set."""
  size, batch_size = setup.dataset.size, len(item.indices)
  if size <= batch_size:
    return {}
  outside = cases.held_out(
    size, item.indices, seed=seed, case=item.case, count=_SAMPLE
  )
  sample = np.asarray(setup.dataset.take(outside).x)
  return {
    'mean_image': baselines.mean_image(sample, batch_size),
    'other_image': baselines.other_images(sample, batch_size),
  }


def _lpips(setup, truth, x) -> float | None:
  if setup.lpips is None:
    return None
  return float(np.mean(np.asarray(setup.lpips(truth, x))))


def _verdict(values, beside) -> str:
  def best(metric):
    medians = {n: float(np.median(v[metric])) for n, v in beside.items()}
    name = max(medians, key=lambda n: np.nan_to_num(medians[n], nan=-np.inf))
    return beside[name][metric]

  return success.verdict(
    psnr=values['psnr'],
    ssim=values['ssim'],
    baseline_psnr=best('psnr'),
    baseline_ssim=best('ssim'),
  ).word
