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
from giajax.engine import experiment
from giajax.engine import features
from giajax.engine.sources import simulated
from giajax.metrics import assignment
from giajax.metrics import baselines
from giajax.metrics import METRICS
from giajax.metrics import pixel
from giajax.metrics import rdlv
from giajax.metrics import success

_SAMPLE = 256  # images that the mean image is made of, at most
_PIXEL = ('mse', 'psnr', 'ssim', 'cw_ssim')
_NETWORK = ('fmse', 'iip')
# Of an image, in the order of the baselines' array.
_SCORES = (*_PIXEL, *_NETWORK, 'rdlv')
_UNDEFINED = ('iip', 'rdlv')  # of some images, which their means leave out

_psnr = jax.jit(pixel.psnr)
_measure = jax.jit(lambda a, b: {name: METRICS[name](a, b) for name in _PIXEL})


def choose(scores: types.Array, finite: np.ndarray) -> int:
  """Returns the finite restart of lowest score; 0 where there is none."""
  values = np.asarray(scores)
  usable = finite & np.isfinite(values)
  return int(np.argmin(np.where(usable, values, np.inf)))


def evaluate(
  setup: experiment.Setup,
  item: simulated.Item,
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
  compared = features.compare(setup, item, {'found': x_hat, **guesses}, seed)
  scored = {
    name: _scores(truth.x, x) | compared.scores[name]
    for name, x in {'found': x_hat, **guesses}.items()
  }
  values = scored.pop('found')
  row = {
    'score': float(found.score[chosen]),
    **_means(values),
    **_claimed(values, slots),
    'iip_chance': compared.chance,
    'exact': success.success_rate(values['psnr'], success.EXACT_PSNR),
    'lpips': _lpips(setup, truth.x, x_hat),
    **_similarity(setup, truth),
    'label_accuracy': success.matched_label_accuracy(
      truth.y, found.batch.y[chosen], slots
    ),
    'psnr_oracle': _oracle(truth, found),
    'finite_restarts': int(finite.sum()),
    'baselines': {name: _listed(scores) for name, scores in scored.items()},
  }
  arrays = {
    'x': truth.x,
    'y': truth.y,
    'x_hat': x_hat,
    'y_hat': y_hat,
    'x_start': x_start,
    **values,
    'scores': found.score,
    'finite': finite,
    'chosen': np.int32(chosen),
  }
  return row, arrays


def conclude(
  row: dict[str, Any],
  arrays: Mapping[str, np.ndarray],
  control: np.ndarray | None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Returns a row with all its baselines and the verdict.

  Args:
    row: from `evaluate`, with the scores of each image in its baselines.
    arrays: of that row.
    control: [M, H, W, C] what the attack made of noise, or None.

  Returns:
    The row, with means in its baselines, and further arrays: 'rdlv' [B], and
    'baselines' [baselines, scores, B] in the order of the row's.
  """
  beside = {
    name: {metric: np.asarray(v) for metric, v in scores.items()}
    for name, scores in row['baselines'].items()
  }
  if control is not None:
    x = _assigned(arrays['x'], control, np.ones(len(control), bool))
    unseen = np.full(len(x), np.nan)
    beside['noise_gradient'] = {
      **_scores(arrays['x'], x),
      **dict.fromkeys(_NETWORK, unseen),
    }
  prior = beside.get('mean_image', {}).get('ssim', np.nan)
  for name, scores in beside.items():
    scores['rdlv'] = rdlv.rdlv(scores['ssim'], prior)
    beside[name] = {metric: scores[metric] for metric in _SCORES}
  gain = rdlv.rdlv(arrays['ssim'], prior)
  concluded = {
    **row,
    **_means({'rdlv': gain}),
    'baselines': {name: _means(scores) for name, scores in beside.items()},
    'verdict': _verdict(arrays, beside),
  }
  table = np.stack([np.stack([*scores.values()]) for scores in beside.values()])
  return concluded, {'rdlv': gain, 'baselines': table.astype(np.float32)}


def _scores(truth, x) -> dict[str, np.ndarray]:
  return jax.tree.map(np.asarray, _measure(truth, x))


def _listed(scores) -> dict[str, list[float]]:
  return {metric: values.tolist() for metric, values in scores.items()}


def _means(scores) -> dict[str, float | None]:
  """The mean of each score; None for one that no image has."""
  means: dict[str, float | None] = {}
  for metric, values in scores.items():
    if metric not in _PIXEL and np.isnan(values).all():
      means[metric] = None
    else:
      mean = np.nanmean if metric in _UNDEFINED else np.mean
      means[metric] = float(mean(values))
  return means


def _claimed(values, slots) -> dict[str, float | None]:
  """The means over the images that a slot was found for."""
  found = slots >= 0
  means = {
    f'{name}_claimed': float(np.mean(values[name][found]))
    if found.any()
    else None
    for name in _PIXEL
  }
  return {'claimed': int(found.sum()), **means}


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
  psnr = np.mean(_psnr(truth, _assigned(truth, x, valid)))
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


def _similarity(setup, truth) -> dict[str, float]:
  if setup.similarity is None:
    return {}
  cosines = np.asarray(setup.similarity(setup.variables, truth))
  return {
    'gradient_similarity': float(cosines.mean()),
    'gradient_similarity_first': float(cosines[0]),
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
