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

_measure = jax.jit(
  lambda a, b: {name: METRICS[name](a, b) for name in _PIXEL}
)


def choose(scores: np.ndarray, finite: np.ndarray) -> int:
  """Returns the finite restart of lowest score; 0 where there is none."""
  usable = finite & np.isfinite(scores)
  return int(np.argmin(np.where(usable, scores, np.inf)))


def evaluate(
  setup: build.Setup,
  item: rounds.Item,
  found: types.Reconstruction,
  start: types.Reconstruction,
  finite: np.ndarray,
  control: np.ndarray | None,
  seed: int,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Scores one item.

  Args:
    setup: of the point.
    item: the truth.
    found: the reconstructions of R restarts, host arrays.
    start: the read-out of the R starts.
    finite: [R] bool, restarts that stayed finite.
    control: [M, H, W, C] what the attack made of noise, or None.
    seed: the experiment's.

  Returns:
    A row of results and the arrays behind it.
  """
  truth = item.batch
  chosen = choose(found.score, finite)
  slots = assignment.assign(
    truth.x, found.batch.x[chosen], found.valid[chosen]
  )
  x_hat = _take(found.batch.x[chosen], slots)
  y_hat = _take_labels(found.batch.y[chosen], slots)
  values = _scores(truth.x, x_hat)
  oracle = [
    _psnr_assigned(truth.x, found.batch.x[r], found.valid[r])
    for r in range(len(finite))
  ]
  x_start = _assigned(truth.x, start.batch.x[chosen], start.valid[chosen])
  guesses = {'start': x_start, **_guesses(setup, item, seed)}
  if control is not None:
    valid = np.ones(len(control), bool)
    guesses['noise_gradient'] = _assigned(truth.x, control, valid)
  beside = {name: _scores(truth.x, x) for name, x in guesses.items()}
  row = {
    'score': float(found.score[chosen]),
    **{name: float(np.mean(values[name])) for name in _PIXEL},
    'lpips': _lpips(setup, truth.x, x_hat),
    'label_accuracy': success.matched_label_accuracy(
      truth.y, found.batch.y[chosen], slots
    ),
    'psnr_oracle': float(np.max(oracle)),
    'baselines': {
      name: {m: float(np.mean(v[m])) for m in ('psnr', 'ssim')}
      for name, v in beside.items()
    },
    'finite_restarts': int(finite.sum()),
    'verdict': _verdict(values, beside),
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


def _scores(truth, x) -> Mapping[str, np.ndarray]:
  return jax.tree.map(np.asarray, _measure(truth, x))


def _psnr_assigned(truth, x, valid) -> float:
  psnr = np.mean(_scores(truth, _assigned(truth, x, valid))['psnr'])
  return float(psnr) if np.isfinite(psnr) else float('-inf')


def _assigned(truth, x, valid) -> np.ndarray:
  return _take(x, assignment.assign(truth, x, valid))


def _take(x, slots) -> np.ndarray:
  """The slot of each image; grey where nothing was claimed."""
  return np.where(
    (slots >= 0)[:, None, None, None], x[slots], np.float32(0.5)
  )


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
  best = max(beside.values(), key=lambda v: float(np.median(v['psnr'])))
  structured = max(beside.values(), key=lambda v: float(np.median(v['ssim'])))
  return success.verdict(
    psnr=values['psnr'],
    ssim=values['ssim'],
    baseline_psnr=best['psnr'],
    baseline_ssim=structured['ssim'],
  ).word
