"""How high the checks of `giajax verify` score honest models.

  python -m giajax.verify.calibration.thresholds --data_dir=DIR --trained=DIR \
    --weights=../shared/data/weights [--seeds=8] [--probe=16] [--out=FILE.jsonl]

runs every check on fresh rows of the zoo (--seeds each), on what `giajax train`
left in --trained and on the published weights under --weights, each on --probes
draws of images, and prints the distribution of each score. The threshold to
commit is the larger of the 99 % quantiles over fresh and over trained
check-ups, the next higher score where there is none at 99 %, rounded up; no
attack has a say in it. The last columns are the committed threshold and its
false alarms here; the last line says how often any check objects.

Without --data_dir, which holds CIFAR-10 as tfds prepares it, photographs are
the probes, and trained models are left out. --only and --networks take some of
all. --rows=FILE,FILE prints the table of what --out wrote before.
"""

from collections.abc import Sequence
import inspect
import json
import pathlib
import sys
import time
from typing import Any

from absl import flags
import jax
import numpy as np

from giajax.engine import build
from giajax.verify import VERIFIERS
from giajax.verify.calibration import honest_models

_FLAGS = honest_models.options(seeds=8)
flags.DEFINE_string(
  'out', '', 'Rows of scores are added to it, as JSON.', flag_values=_FLAGS
)
flags.DEFINE_string(
  'weights', '', 'Folder of published weights.', flag_values=_FLAGS
)
flags.DEFINE_integer(
  'probes', 4, 'Draws of images, of trained.', 1, flag_values=_FLAGS
)
flags.DEFINE_bool(
  'known_rate',
  False,
  'The client knows rate times steps, as by `giajax verify --learning_rate`.',
  flag_values=_FLAGS,
)
flags.DEFINE_list('only', list(VERIFIERS), 'Checks.', flag_values=_FLAGS)
flags.DEFINE_list(
  'rows', [], 'Files of --out, in place of a run.', flag_values=_FLAGS
)
_WHERE = (50, 90, 99, 100)


def main(argv: Sequence[str]) -> int:
  """Scores the models and prints the table."""
  wrong = honest_models.parse(_FLAGS, argv, {'only': ('check', VERIFIERS)})
  if wrong:
    print(wrong, file=sys.stderr)
    return 2
  if _FLAGS.rows:
    texts = [pathlib.Path(path).read_text() for path in _FLAGS.rows]
    print(table([json.loads(x) for text in texts for x in text.splitlines()]))
    return 0
  images, rows = build.dataset(honest_models.entry(_FLAGS.data_dir)), []
  for model in _models(images):
    began = time.perf_counter()
    draws = _FLAGS.probes if model.kind == 'trained' else 1
    found = honest_models.scores(
      model,
      probe=_FLAGS.probe,
      probes=draws,
      names=_FLAGS.only,
      known_rate=_FLAGS.known_rate,
    )
    taken = list(found)
    rows += taken
    if _FLAGS.out:  # as it goes: the whole takes an hour
      with open(_FLAGS.out, 'a') as file:
        file.writelines(json.dumps(row) + '\n' for row in taken)
    jax.clear_caches()
    took = time.perf_counter() - began
    print(f'# {model.kind} {model.name}: {took:.0f} s', flush=True)
  print(table(rows))
  return 0


def threshold(name: str) -> float:
  """Returns the committed threshold of a check."""
  return inspect.signature(VERIFIERS[name]).parameters['threshold'].default


def table(rows: Sequence[dict[str, Any]]) -> str:
  """Returns the distributions of scores as Markdown.

  Args:
    rows: of `honest_models.scores`.
  """
  names = [n for n in VERIFIERS if any(n in row['scores'] for row in rows)]
  kinds = sorted({row['kind'] for row in rows})
  head = ['check', *(f'{k} {q} %' for k in kinds for q in _WHERE)]
  lines = [head + ['suggested', 'threshold', *(f'{k} alarms' for k in kinds)]]
  for name in names:
    values = {k: _scores(rows, k, name) for k in kinds}
    cells = [_at(values[k], q) for k in kinds for q in _WHERE]
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


def _at(values: np.ndarray, percent: int) -> str:
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


def _models(images):
  names = _FLAGS.networks
  names = list(honest_models.FRESH) if names is None else names
  yield from honest_models.fresh(images, names, _FLAGS.seeds)
  if _FLAGS.data_dir and _FLAGS.trained:
    yield from honest_models.trained(_FLAGS.trained, images)
  if _FLAGS.data_dir and _FLAGS.weights:
    yield from honest_models.published(_FLAGS.weights, images)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
