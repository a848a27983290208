"""Scoring: the only place where the truth meets a reconstruction.

The restart was chosen before, by the attacker's own score; here images are
assigned within their batch, measured, and compared with what guesses reach. The
oracle's choice is reported under its own name.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from giajax import keys
from giajax import trees
from giajax import types
from giajax.data import cases
from giajax.engine import beside
from giajax.engine import experiment
from giajax.engine import guesses as guess_rules
from giajax.engine import setting as settings
from giajax.metrics import assignment
from giajax.metrics import base
from giajax.metrics import iip
from giajax.metrics import METRICS
from giajax.metrics import psnr as psnr_metric
from giajax.metrics import scoring
from giajax.metrics import success
from giajax.results import columns
from giajax.tasks import base as tasks

_psnr = jax.jit(psnr_metric.psnr)


def choose(scores: types.Array, finite: np.ndarray) -> int:
  """Returns the finite restart of lowest score; 0 if there is none."""
  values = np.asarray(scores)
  usable = finite & np.isfinite(values)
  return int(np.argmin(np.where(usable, values, np.inf)))


class Attacked(NamedTuple):
  """An update, and what an attack made of it.

  Attributes:
    item: the truth; where the images are unknown, nothing is scored.
    reconstruction: the reconstructions of R restarts, host arrays.
    start: the read-out of the R starts.
    finite: the restarts that stayed finite, [R] bool.
  """

  item: experiment.Item
  reconstruction: types.Reconstruction
  start: types.Reconstruction
  finite: np.ndarray


class Chosen(NamedTuple):
  """What the attacker chose, put beside the true images.

  Attributes:
    restart: the restart.
    slots: the slot of each image, [B]; see `metrics.assignment`.
    seen: what `beside.look` returns for its images and for the start's.
  """

  restart: int
  slots: np.ndarray
  seen: Mapping[str, Mapping[str, np.ndarray]]


def chosen(
  setup: experiment.Setup, attacked: Sequence[Attacked]
) -> list[Chosen]:
  """Returns what was chosen of many updates whose images are known.

  Args:
    setup: the setup of their points.
    attacked: the updates.
  """
  places, guessed = [], []
  for item, final, start, finite in attacked:
    restart = choose(final.score, finite)
    found, x = final.batch.x[restart], item.batch.x
    slots = assignment.assign(x, found, final.valid[restart])
    origin, x_start = _start(setup, item.batch, start, restart)
    places.append((restart, slots))
    guessed.append((x, {'attack': _take(found, slots), origin: x_start}))
  looked = beside.look(setup, guessed)
  return [
    Chosen(restart, slots, seen)
    for (restart, slots), seen in zip(places, looked)
  ]


def evaluate(
  setup: experiment.Setup,
  attacked: Attacked,
  seed: int,
  history: Callable[[], base.History] | None = None,
  choice: Chosen | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Scores one item.

  Args:
    setup: the setup of the point.
    attacked: the update.
    seed: the seed of the experiment.
    history: a function that plays the item's rounds again, for a metric that
      needs what the attacker saw; None leaves such metrics NaN.
    choice: what `chosen` returned for the update, None to find it here.

  Returns:
    A row of results, to be completed by `conclude`, and the arrays behind it.
  """
  item, reconstruction, _, finite = attacked
  if item.batch is None:
    return _unscored(setup, attacked, seed)
  restart, slots, seen = choice or chosen(setup, [attacked])[0]
  truth, batch = item.batch, reconstruction.batch
  valid = reconstruction.valid[restart]
  y_hat = jax.tree.map(lambda leaf: np.asarray(leaf[restart]), batch.y)
  x_hat, x_start = (own['x_hat'] for own in seen.values())
  known = beside.of_item(setup, item, seed)
  scores = beside.scores(setup, known.facts, seen)
  values = scores.pop('attack')
  about = _about(setup, item, known.facts, history, seed)
  row = {
    'score': float(reconstruction.score[restart]),
    **_of_row(values | about),
    **_claimed(values, slots),
    **_labels(setup, truth.y, y_hat, valid, slots),
    **settings.describe(
      setup, seed, known_before=guess_rules.known_before(setup, item, seed)
    ),
    'psnr_oracle': _oracle(truth, reconstruction),
    'finite_restarts': int(finite.sum()),
    'baselines': {
      name: _listed(own) for name, own in (scores | {**known.scores}).items()
    },
  }
  pictures = {f'x_{name}': x for name, x in known.images.items()}
  arrays = {
    **{n: x for n, x in pictures.items() if n in columns.OPTIONAL},
    'x': truth.x,
    **trees.prefixed('y', truth.y),
    'x_hat': x_hat,
    **trees.prefixed('y_hat', _take_targets(y_hat, slots)),
    'x_start': x_start,
    **values,
    **about,
    'scores': reconstruction.score,
    'finite': finite,
    'chosen': np.int32(restart),
  }
  return row, arrays


def conclude(
  row: dict[str, Any],
  arrays: Mapping[str, np.ndarray],
  control: np.ndarray | None,
  scorers: Mapping[str, base.Score],
  control_score: float = math.nan,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Returns a row with all its baselines and the verdict.

  Args:
    row: the row from `evaluate`, with the scores of each image in its
      baselines.
    arrays: the arrays of that row.
    control: [M, H, W, C] what the attack made of noise, or None.
    scorers: the metrics of the experiment.
    control_score: the attacker's objective for that.

  Returns:
    The row, with means in its baselines, and further arrays: 'baselines'
    [baselines, metrics, B] in the order of the row's, and 'x_noise_gradient',
    the images of the control, if there is one.
  """
  further = {}
  if 'baselines' not in row:
    return _unjudged(row, control, control_score)
  around = {
    name: {metric: np.asarray(v) for metric, v in scores.items()}
    for name, scores in row['baselines'].items()
  }
  if control is not None:
    x_hat = _assigned(arrays['x'], control, np.ones(len(control), bool))
    around['noise_gradient'] = _of_noise(arrays['x'], x_hat, around, scorers)
    further['x_noise_gradient'] = x_hat
  judgement = _judgement(row, arrays, around)
  concluded = {
    **row,
    'baselines': {name: _of_row(scores) for name, scores in around.items()},
    'verdict': judgement.word,
    'reason': judgement.reason,
  }
  table = np.stack([np.stack([*scores.values()]) for scores in around.values()])
  return concluded, {**further, 'baselines': table.astype(np.float32)}


def _unscored(setup, attacked, seed):
  """Returns the row and the arrays of an update whose images are unknown."""
  _, reconstruction, start, finite = attacked
  batch, chosen = reconstruction.batch, choose(reconstruction.score, finite)
  steps = setup.attack.num_steps
  row = {
    'score': float(reconstruction.score[chosen]),
    # A closed form starts nowhere, and has one answer.
    'score_start': float(start.score[chosen]) if steps else math.nan,
    'agreement': _agreement(reconstruction, chosen, finite)
    if steps
    else math.nan,
    'labels_granted': False,
    **settings.describe(setup, seed),
    'finite_restarts': int(finite.sum()),
  }
  y_hat = jax.tree.map(lambda leaf: np.asarray(leaf[chosen]), batch.y)
  valid = reconstruction.valid[chosen]
  slots = np.where(valid, np.arange(len(valid)), -1)
  arrays = {
    'x_hat': batch.x[chosen],
    **trees.prefixed('y_hat', _take_targets(y_hat, slots)),
    'x_start': _start_of(setup, start, chosen),
    'scores': reconstruction.score,
    'finite': finite,
    'chosen': np.int32(chosen),
  }
  return row, arrays


def _agreement(reconstruction, chosen, finite) -> float:
  """Returns the median PSNR of the other restarts' images to the chosen one's.

  NaN for a single restart.
  """
  x, valid = reconstruction.batch.x, reconstruction.valid
  others = [r for r in np.flatnonzero(finite) if r != chosen]
  scores = [_psnr_assigned(x[chosen], x[r], valid[r]) for r in others]
  return float(np.median(scores)) if scores else math.nan


def _unjudged(row, control, control_score):
  """Returns the row of an update whose images are unknown, and its control."""
  concluded = {**row, 'score_noise': float(control_score)}
  judgement = success.unscored(
    score=row['score'],
    start=row['score_start'],
    noise=control_score,
    agreement=row['agreement'],
    degenerate=row.get('degenerate', ''),
  )
  concluded |= {'verdict': judgement.word, 'reason': judgement.reason}
  return concluded, {} if control is None else {'x_noise_gradient': control}


def images(setup: experiment.Setup, case: int) -> set[int]:
  """Returns which images of the data set an update and its scoring read."""
  size, labels = setup.dataset.size, setup.dataset.labels
  if not size:
    return set()
  batch = setup.source.item(setup, case).indices
  batch = batch[batch != experiment.ELSEWHERE]
  draw = functools.partial(cases.held_out, size, seed=setup.seed)
  needed = {
    *batch.tolist(),
    *draw((), case=0, count=guess_rules.SAMPLE).tolist(),
  }
  if size > len(batch):
    count = max(len(batch), setup.proxy_images)
    needed |= {*draw(batch, case=case, count=count).tolist()}
  for i in batch:
    rivals = cases.same_class(
      labels, i, seed=setup.seed, case=case, count=iip.RIVALS
    )
    needed |= {*rivals.tolist()}
  return needed


def _about(setup, item, known, history, seed):
  """Returns the metrics of the batch."""
  facts = {n: known[n] for n in ('features', 'rivals') if n in known}
  facts |= _of_batch(setup, item, history, seed)
  return scoring.scores(setup.scorers, facts, 'batch', len(item.indices))


def _of_batch(setup, item, history, seed) -> dict[str, Any]:
  """Returns what metrics of the batch may need."""
  facts = {
    'batch': item.batch,
    'variables': setup.variables,
    'received_stats': setup.message.variables.stats,
  }
  needed = {need for name in setup.scorers for need in METRICS[name].needs}
  if history and 'history' in needed:
    facts['history'] = history()
  if 'noise' in needed:
    key = keys.named(jax.random.key(seed), 'noise')
    facts['noise'] = _noise(keys.at(key, item.case), item.batch.x.shape)
  return facts


@functools.partial(jax.jit, static_argnums=1)
def _noise(key: types.Array, shape: tuple[int, ...]) -> types.Array:
  """Returns images of uniform noise in [0, 1]."""
  return 0.5 + keys.uniform(key, shape, 0.5)


def _of_noise(x, x_hat, around, scorers) -> dict[str, np.ndarray]:
  """Returns the metrics of what the attack made of noise.

  Metrics that need more than images are NaN.
  """
  images = scoring.of_images(x, x_hat)
  facts = {'x': x, 'x_hat': x_hat, **images, **beside.prior(around)}
  names = next(iter(around.values()))
  functions = {name: scorers.get(name) for name in names}
  return scoring.scores(functions, facts, 'guess', len(x))


def _listed(scores) -> dict[str, list[float]]:
  return {metric: values.tolist() for metric, values in scores.items()}


def _of_row(scores) -> dict[str, float]:
  return {name: METRICS[name].of_row(v) for name, v in scores.items()}


def _claimed(values, slots) -> dict[str, Any]:
  """Returns the metrics of the batch, over the images that have a slot."""
  matched = slots >= 0
  means = {
    f'{name}_claimed': METRICS[name].of_row(scores[matched])
    for name, scores in values.items()
    if METRICS[name].of_images
  }
  return {'claimed': int(matched.sum()), **means}


def _labels(setup, y, y_hat, valid, slots) -> dict[str, Any]:
  """Returns the outcome for the targets, whatever that for the images."""
  grants = {'labels', 'label_counts'} & setup.granted & setup.attack.needs
  shares = _shares(setup.world.task, y, y_hat, valid)
  return {
    'labels_granted': bool(grants),
    'labels_recovered': success.labels_recovered(shares),
    'labels_matched': success.labels_matched(shares, slots),
  }


def _shares(task, y, y_hat, valid) -> np.ndarray:
  """Returns the share of each target in each claim, [B, M]; NaN for none."""
  forms = [
    {n: (a.ndim, a.dtype.kind) for n, a in trees.named_leaves(t).items()}
    for t in (y, y_hat)
  ]
  claims = np.asarray(valid)
  if forms[0] != forms[1]:  # -1 for each image
    claims = np.zeros(len(claims), bool)
  elif isinstance(y_hat, np.ndarray) and y_hat.ndim == 1:
    claims = claims & ~((y_hat < 0) & (y_hat.dtype.kind == 'i'))
  shares = np.full((len(jax.tree.leaves(y)[0]), len(claims)), np.nan)
  if claims.any():
    own = jax.tree.map(lambda leaf: leaf[claims], y_hat)
    shares[:, claims] = _compared(task.same)(y, own)
  return shares


@functools.lru_cache(maxsize=4)
def _compared(same: Callable[..., Any]) -> Callable[..., types.Array]:
  """Returns `(y, y_hat) -> [B, M]`, compiled once for all items."""
  return jax.jit(functools.partial(tasks.shares, same))


def _start(setup, truth, start, chosen) -> tuple[str, np.ndarray]:
  """The start of the optimisation; grey where it knows the update already."""
  if not setup.attack.blind_start:
    return 'grey_image', _start_of(setup, start, chosen)
  x = _assigned(truth.x, start.batch.x[chosen], start.valid[chosen])
  return 'start', x


def _start_of(setup, start, chosen) -> np.ndarray:
  x = start.batch.x[chosen]
  return x if setup.attack.blind_start else np.full_like(x, 0.5)


def _oracle(truth, reconstruction) -> float:
  """PSNR of the restart that somebody who knows the truth would choose."""
  pairs = zip(reconstruction.batch.x, reconstruction.valid)
  x_hat = np.stack([_assigned(truth.x, *pair) for pair in pairs])
  x = np.broadcast_to(truth.x, x_hat.shape)
  every = _psnr(*(a.reshape(-1, *truth.x.shape[1:]) for a in (x, x_hat)))
  psnr = np.mean(np.asarray(every).reshape(x_hat.shape[:2]), axis=1)
  return float(np.max(np.where(np.isfinite(psnr), psnr, -np.inf)))


def _psnr_assigned(truth, x, valid) -> float:
  psnr = np.mean(_psnr(truth, _assigned(truth, x, valid)))
  return float(psnr) if np.isfinite(psnr) else float('-inf')


def _assigned(truth, x, valid) -> np.ndarray:
  return _take(x, assignment.assign(truth, x, valid))


def _take(x, slots) -> np.ndarray:
  """The slot of each image; grey where nothing was claimed."""
  return np.where((slots >= 0)[:, None, None, None], x[slots], np.float32(0.5))


def _take_targets(y, slots) -> types.Tree:
  """The targets of slots; -1, NaN or false where nothing was claimed."""

  def take(leaf):
    none = {'i': -1, 'f': np.nan, 'b': False}[leaf.dtype.kind]
    missing = (slots < 0).reshape(-1, *[1] * (leaf.ndim - 1))
    return np.where(missing, none, leaf[slots]).astype(leaf.dtype)

  return jax.tree.map(take, y)


def _judgement(row, values, around) -> success.Judgement:
  def best(metric):
    medians = {n: float(np.median(v[metric])) for n, v in around.items()}
    name = max(medians, key=lambda n: np.nan_to_num(medians[n], nan=-np.inf))
    return around[name][metric]

  return success.verdict(
    psnr=values['psnr'],
    ssim=values['ssim'],
    baseline_psnr=best('psnr'),
    baseline_ssim=best('ssim'),
    degenerate=row.get('degenerate', ''),
    image_share=row.get('image_share', math.nan),
  )
