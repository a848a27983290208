"""How high the checks of `giajax verify` score honest models.

  python -m giajax.verify.calibration.thresholds [--data_dir=DIR]
    [--trained=DIR] [--weights=DIR] [--seeds=8] [--probe=16] [--probes=4]
    [--networks=NAME,NAME] [--only=CHECK,CHECK] [--known_rate]
    [--out=FILE.jsonl] [--rows=FILE,FILE] [--quick]

runs every check on fresh rows of the zoo (--seeds models of each), on what
`giajax train` left in --trained and on the published weights under --weights,
each of the latter two on --probes draws of images, and prints the distribution
of each score. The threshold to commit is the larger of the 99 % quantiles over
fresh and over trained check-ups (if there is no score at 99 %, the next higher
one), rounded up; no attack is considered. The last columns of the table are the
committed threshold and its false alarms here; the last line says how often any
check objects.

Without --data_dir, which holds CIFAR-10 as tfds prepares it, photographs are
the probes, and trained models are left out. --rows prints the table of what
--out wrote before and runs nothing. --quick takes two fresh networks and two
models of each.
"""

from collections.abc import Iterator, Sequence
import inspect
import json
import pathlib
import sys
import time
from typing import Any

from absl import flags
import jax
import numpy as np

from giajax.engine import systems
from giajax.verify import VERIFIERS
from giajax.verify.calibration import honest_models
from giajax.verify.calibration import options

_PERCENTILES = (50, 90, 99, 100)
_QUICK = ('mlp', 'lenet')


def main(argv: Sequence[str]) -> int:
  """Scores the models and prints the table; returns the exit code."""
  values = _flags()
  try:
    options.parse(values, argv, {'only': ('check', VERIFIERS)})
  except ValueError as error:
    print(error, file=sys.stderr)
    return 2
  if values.help:
    print(options.usage(__doc__, values))
    return 0
  if values.rows:
    texts = [pathlib.Path(path).read_text() for path in values.rows]
    print(table([json.loads(x) for text in texts for x in text.splitlines()]))
    return 0
  rows = []
  for model in _models(values):
    began = time.perf_counter()
    own = list(
      honest_models.scores(
        model,
        probe=values.probe,
        probes=values.probes if model.kind == 'trained' else 1,
        names=values.only or list(VERIFIERS),
        known_rate=values.known_rate,
      )
    )
    rows += own
    if values.out:  # after each model, because the whole takes an hour
      with open(values.out, 'a') as file:
        file.writelines(json.dumps(row) + '\n' for row in own)
    jax.clear_caches()
    seconds = time.perf_counter() - began
    print(f'# {model.kind} {model.name}: {seconds:.0f} s', flush=True)
  print(table(rows))
  return 0


def threshold(name: str) -> float:
  """Returns the committed threshold of a check."""
  return inspect.signature(VERIFIERS[name]).parameters['threshold'].default


def table(rows: Sequence[dict[str, Any]]) -> str:
  """Returns the distributions of scores as Markdown.

  Args:
    rows: the rows of `honest_models.scores`.
  """
  names = [n for n in VERIFIERS if any(n in row['scores'] for row in rows)]
  kinds = sorted({row['kind'] for row in rows})
  head = ['check', *(f'{k} {q} %' for k in kinds for q in _PERCENTILES)]
  lines = [head + ['suggested', 'threshold', *(f'{k} alarms' for k in kinds)]]
  for name in names:
    values = {k: _scores(rows, k, name) for k in kinds}
    cells = [_quantile(values[k], q) for k in kinds for q in _PERCENTILES]
    limit = threshold(name)
    best = max(
      np.percentile(v, 99, method='higher') for v in values.values() if len(v)
    )
    alarms = [
      f'{np.mean(v > limit):.1%} of {len(v)}' if len(v) else '–'
      for v in values.values()
    ]
    lines.append([name, *cells, f'{best:.3g}', f'{limit:.3g}', *alarms])
  lines.insert(1, ['-'] * len(lines[0]))
  text = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
  return f'{text}\n\n{_any(rows, kinds)}'


def _quantile(values: np.ndarray, percent: int) -> str:
  return f'{np.percentile(values, percent):.3g}' if len(values) else '–'


def _any(rows, kinds) -> str:
  parts = []
  for kind in kinds:
    own = [row['scores'] for row in rows if row['kind'] == kind]
    loud = np.mean(
      [any(v > threshold(n) for n, v in scores.items()) for scores in own]
    )
    models = len({(r['name'], r['model']) for r in rows if r['kind'] == kind})
    parts.append(
      f'{kind}: {loud:.1%} of {len(own)} check-ups of {models} models flagged '
      'by any check'
    )
  return '; '.join(parts)


def _scores(rows, kind, name) -> np.ndarray:
  return np.array(
    [
      row['scores'][name]
      for row in rows
      if row['kind'] == kind and name in row['scores']
    ]
  )


def _models(values: flags.FlagValues) -> Iterator[honest_models.Honest]:
  """Yields what the flags name, fresh models first."""
  images = systems.dataset(honest_models.entry(values.data_dir))
  default, seeds = honest_models.FRESH, values.seeds
  if values.quick:
    default, seeds = _QUICK, min(2, seeds)
  names = list(default) if values.networks is None else values.networks
  yield from honest_models.fresh(images, names, seeds)
  if values.data_dir and not values.quick:
    if values.trained:
      yield from honest_models.trained(values.trained, images)
    if values.weights:
      yield from honest_models.published(values.weights, images)


def _flags() -> flags.FlagValues:
  values = options.common(seeds=8)
  flags.DEFINE_string(
    'out', '', 'The file that rows are added to, as JSON.', flag_values=values
  )
  flags.DEFINE_string(
    'weights', '', 'The folder of published weights.', flag_values=values
  )
  flags.DEFINE_integer(
    'probes', 4, 'Draws of images per trained model.', 1, flag_values=values
  )
  flags.DEFINE_bool(
    'known_rate',
    False,
    'The client knows rate times steps, as with `verify --learning_rate`.',
    flag_values=values,
  )
  flags.DEFINE_bool(
    'quick',
    False,
    'Takes two fresh networks and two models of each.',
    flag_values=values,
  )
  flags.DEFINE_list(
    'only',
    None,
    'The names of checks; all of them by default.',
    flag_values=values,
  )
  flags.DEFINE_list(
    'rows',
    [],
    'The files that --out wrote, to print instead of a run.',
    flag_values=values,
  )
  return values


if __name__ == '__main__':
  sys.exit(main(sys.argv))
