"""From what parts found to rows, and from all rows to the files of a run."""

from collections.abc import Callable, Mapping, Sequence
import functools
import pathlib
import platform
from typing import Any

import jax
import numpy as np

import giajax
from giajax import archives
from giajax import threat
from giajax import types
from giajax.engine import build
from giajax.engine import checkpoint
from giajax.engine import evaluate
from giajax.engine import exchange as rounds
from giajax.engine import loop
from giajax.engine import plan
from giajax.engine import schema
from giajax.engine import workdir
from giajax.metrics import degenerate
from giajax.results import rows as row_format

Rows = list[dict[str, Any]]


def meta(resolved: dict[str, Any], card: str, command: str) -> dict[str, Any]:
  """Returns what `config.json` says before anything is built."""
  level, weights = resolved['threat']['level'], resolved['weights']['path']
  granted = threat.grants(level, resolved['threat']['grants'])
  return {
    'config': resolved,
    'hash': schema.config_hash(resolved),
    'card': card,
    'command': command,
    'versions': versions(),
    'weights_sha256': _sha256(weights) if weights else None,
    'device': device(),
    'threat': {'level': level, **threat.describe(granted)},
  }


def dataset_meta(setup: build.Setup) -> dict[str, Any]:
  """Returns what `config.json` says about the images."""
  return {
    'class_names': list(setup.dataset.class_names),
    'data_note': setup.dataset.note,
  }


def device() -> str:
  """Returns the kind of the devices and their number."""
  return f'{jax.devices()[0].device_kind} x{jax.device_count()}'


def versions() -> dict[str, str]:
  """Returns the versions that a result depends on."""
  return {
    'giajax': giajax.__version__,
    'jax': jax.__version__,
    'numpy': np.__version__,
    'python': platform.python_version(),
  }


def degenerates(
  observation: types.Observation, items: Sequence[rounds.Item]
) -> list[str]:
  """Returns the column 'degenerate' of each item.

  Args:
    observation: what the attack inverts, with a leading axis of items.
    items: the truth.
  """
  delta = observation.update.delta
  return [
    degenerate.reason(_pick(delta, n), len(item.indices))
    for n, item in enumerate(items)
  ]


def score(
  part: plan.Part,
  items: Sequence[rounds.Item],
  outcome: loop.Outcome,
  marks: np.ndarray,
  play: Callable[[rounds.Item], tuple[types.Observation, ...]],
  facts: Sequence[Mapping[str, Any]],
) -> tuple[Rows, dict[str, np.ndarray]]:
  """Scores the items of a part.

  Args:
    part: the part.
    items: their truth.
    outcome: what the attack found.
    marks: [L] steps of the trace.
    play: of `exchange.player`.
    facts: further columns, of each item.

  Returns:
    Rows that lack the comparison with their point's control, and arrays:
    those of the rows, and what the attack made of the controls.
  """
  setup, rows, arrays = part.cohort.setup, [], {}
  for n, (work, item) in enumerate(zip(part.work, items)):
    final, finite = _pick(outcome.final, n), outcome.finite[n]
    if work.control:
      chosen = evaluate.choose(final.score, finite)
      arrays[_control(work.point.index)] = final.batch.x[chosen]
      continue
    scored, kept = evaluate.evaluate(
      setup,
      item,
      final,
      _pick(outcome.start, n),
      finite,
      work.point.config['seed'],
      functools.partial(play, item),
    )
    rows.append({**_facts(part.cohort, work), **scored, **facts[n]})
    kept |= {'trace': outcome.trace[n], 'trace_step': marks}
    arrays |= {
      row_format.key(work.row, name): value for name, value in kept.items()
    }
  return rows, arrays


def join(folder: pathlib.Path, found: Sequence[plan.Cohort]) -> Rows:
  """Joins the parts, if all of them are there.

  Returns:
    The rows of `results.jsonl`; none if parts are missing.

  Raises:
    ValueError: a part is torn, or the workdir cannot be written.
  """
  done = plan.finished(folder)
  if plan.parts(found, done):
    return []
  for partial in (*folder.glob('.*.partial'), *folder.glob('parts/.*.partial')):
    partial.unlink(missing_ok=True)
  arrays: dict[str, np.ndarray] = {}
  rows: dict[int, dict[str, Any]] = {}
  for path in sorted((folder / 'parts').glob('*.npz')):
    part_rows, part_arrays = workdir.read_part(path)
    rows |= {row['row']: row for row in part_rows}
    arrays |= part_arrays
  ordered = []
  for number in sorted(rows):
    row, further = _concluded(rows[number], arrays)
    ordered.append(row_format.checked(row))
    arrays |= {
      row_format.key(number, name): value for name, value in further.items()
    }
  kept = {k: arrays[k] for k in sorted(arrays) if not k.startswith('control/')}
  workdir.write_arrays(folder / 'recon.npz', kept)
  workdir.write_text(folder / 'results.jsonl', row_format.lines(ordered))
  checkpoint.remove(folder / 'checkpoints')
  return ordered


def _concluded(row, arrays):
  own = {
    name: arrays[row_format.key(row['row'], name)]
    for name in ('x', 'psnr', 'ssim')
  }
  return evaluate.conclude(row, own, arrays.get(_control(row['point'])))


def _pick(tree, n):
  return jax.tree.map(lambda leaf: leaf[n], tree)


def _control(point: int) -> str:
  return f'control/{point:04d}'


def _facts(cohort: plan.Cohort, work: plan.Work) -> dict[str, Any]:
  setup, config = cohort.setup, work.point.config
  return {
    'row': work.row,
    'point': work.point.index,
    'case': work.case,
    'sweep': dict(work.point.overrides),
    'attack': config['attack']['name'],
    'model': setup.net.spec.name,
    'dataset': setup.dataset.name,
    'batch_size': setup.world.batch_size,
    'restarts': config['restarts'],
    'steps': setup.attack.num_steps,
    'grants': sorted(setup.granted),
    'cohort': cohort.number,
    'config_hash': schema.config_hash(config),
    'versions': versions(),
  }


def _sha256(path: str) -> str | None:
  """Returns what names a file's content; None if there is no such file."""
  try:
    return archives.sha256(path)
  except OSError:  # `build` says so in its own words
    return None
