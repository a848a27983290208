"""Successive halving: which settings of an attack deserve all of its steps.

Many settings are tried for a few steps, the best of them for more, and the last
ones for all (K. Jamieson and A. Talwalkar, AISTATS 2016, arXiv 1502.07943,
algorithm 1). "Best" is the attacker's own score, the distance between updates,
as nobody else knows the truth; so only the traced knobs of the attack may
differ between the settings, none of which enters that score. Each round starts
anew, because schedules end with the last step, and is an experiment that may be
stopped and continued.
"""

from collections.abc import Mapping, Sequence
import math
import os
from typing import Any, NamedTuple

import numpy as np

from giajax import paths
from giajax import require
from giajax.engine import build
from giajax.engine import run
from giajax.engine import schema
from giajax.engine import sweep
from giajax.results import axes
from giajax.results import wording


class Round(NamedTuple):
  """One round.

  Attributes:
    steps: the steps of each setting.
    settings: the number of settings.
  """

  steps: int
  settings: int


class Rung(NamedTuple):
  """A round that was run.

  Attributes:
    round: what was run.
    scores: the mean score over the cases, by the index of the point, from the
      best to the worst; infinite where a case has no finite score.
    rows: the rows of its results.
  """

  round: Round
  scores: Mapping[int, float]
  rows: Sequence[Mapping[str, Any]]


def rounds(points: int, steps: int, factor: int = 3) -> list[Round]:
  """Returns what is run, each round by `factor` fewer settings for more steps.

  Args:
    points: the number of settings, at least 2.
    steps: the steps of the last round.
    factor: what settings are divided by from one round to the next, at least 2.
  """
  count = max(1, math.floor(math.log(points, factor) + 1e-9))
  made = []
  for left in range(count, -1, -1):
    made.append(
      Round(
        max(1, steps // factor**left),
        max(1, math.ceil(points / factor ** (count - left) - 1e-9)),
      )
    )
  return made


def tune(
  config: Mapping[str, Any],
  workdir: str | os.PathLike[str],
  *,
  factor: int = 3,
  **options: Any,
) -> list[Rung]:
  """Runs all rounds and returns them.

  Args:
    config: the experiment, whose sweep is over what the attacker may choose.
    workdir: the folder of the workdirs 'round_0', 'round_1' and so on, or its
      URL. Running the same config again continues.
    factor: see `rounds`.
    **options: as for `run.audit`; 'finish' is for the last round.

  Raises:
    ValueError: a sweep over anything else, or of one point; or as `run.audit`.
  """
  require.whole(factor, 'factor', least=2)
  resolved = schema.resolve(config)
  settings = sweep.expand(config)
  _check(resolved, settings)
  plan = rounds(len(settings), resolved['attack']['num_steps'], factor)
  finish = options.pop('finish', None)
  left, rungs = [*range(len(settings))], []
  for number, one in enumerate(plan):
    last = number == len(plan) - 1
    own = _config(resolved, [settings[i] for i in left[: one.settings]], one)
    if not last:
      own |= {'noise_controls': 0, 'study': {}}
    elif finish:
      options['finish'] = finish
    place = paths.below(workdir, f'round_{number}')
    rows = run.audit(own, place, **options)
    scores = _scores(rows, left)
    rungs.append(Rung(one, scores, rows))
    left = [*scores]
  return rungs


def describe(rung: Rung, settings: Sequence[sweep.Setting]) -> str:
  """Returns the outcome of a round in a line."""
  best = next(iter(rung.scores))
  text = ', '.join(
    f'{key}={wording.plain(value)}'
    for key, value in settings[best].overrides.items()
  )
  return (
    f'{wording.plural(rung.round.settings, "setting")} for '
    f'{wording.plural(rung.round.steps, "step")}: best {text} with a score of '
    f'{wording.significant(rung.scores[best])}'
  )


def _check(
  resolved: Mapping[str, Any], settings: Sequence[sweep.Setting]
) -> None:
  swept = resolved['sweep']
  keys = {*axes.values(swept)}
  for axis in axes.axes(swept):
    for place in axis:
      keys |= {*place.get(axes.VARIANT, {})} - {'name'}
  keys -= {axes.VARIANT}
  first = build.setup(settings[0].config)
  knobs = {f'attack.{name}' for name in first.attack.hparams}
  wrong = sorted(keys - knobs)
  if wrong:
    raise ValueError(
      f'Expected a sweep over {", ".join(sorted(knobs))}, which leave the '
      f'meaning of the score alone; got {", ".join(wrong)}; take it out of the '
      'sweep'
    )
  if len(settings) < 2:
    raise ValueError(
      'Expected a sweep of several points to choose from; got '
      f'{len(settings)}; set sweep'
    )
  if type(resolved['attack'].get('num_steps')) is not int:
    raise ValueError(
      'Expected attack.num_steps, the steps of the last round; got none; set it'
    )


def _config(
  resolved: Mapping[str, Any], chosen: Sequence[sweep.Setting], one: Round
) -> dict[str, Any]:
  """Returns the config of a round over the chosen settings."""
  named = {
    variant['name']: variant
    for variant in resolved['sweep'].get(axes.VARIANT) or ()
  }
  columns: dict[str, list[Any]] = {key: [] for key in chosen[0].overrides}
  for setting in chosen:
    for key, value in setting.overrides.items():
      own = named[value] if key == axes.VARIANT else value
      columns[key].append(own)
  attack = {**resolved['attack'], 'num_steps': one.steps}
  return {**resolved, 'attack': attack, 'sweep': {axes.ZIP: columns}}


def _scores(
  rows: Sequence[Mapping[str, Any]], left: Sequence[int]
) -> dict[int, float]:
  """Returns the mean score of each point, the best first.

  Args:
    rows: the rows of a round.
    left: the indices of its points in the whole sweep.
  """
  every: dict[int, list[float]] = {}
  for row in rows:
    score = wording.number(row['score'])
    every.setdefault(left[row['point']], []).append(
      score if math.isfinite(score) else math.inf
    )
  means = {index: float(np.mean(scores)) for index, scores in every.items()}
  return dict(sorted(means.items(), key=lambda pair: (pair[1], pair[0])))
