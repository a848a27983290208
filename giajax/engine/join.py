"""From a part's outcome to rows, and from all rows to the files of a run."""

from collections.abc import Mapping, Sequence
import functools
import pathlib
from typing import Any

import jax
import numpy as np

from giajax import types
from giajax.engine import evaluate
from giajax.engine import exchange
from giajax.engine import experiment
from giajax.engine import loop
from giajax.engine import plan
from giajax.engine import provenance
from giajax.engine import workdir
from giajax.metrics import degenerate
from giajax.metrics import METRICS
from giajax.results import collection
from giajax.results import columns as result_columns
from giajax.results import rows as result_rows

Rows = list[dict[str, Any]]


def degenerates(
  setup: experiment.Setup, observation: types.Observation, count: int
) -> list[str]:
  """Returns the column 'degenerate' of each item.

  Args:
    setup: of the point.
    observation: what the attack inverts, with a leading axis of items.
    count: N, the number of items.
  """
  delta, size = observation.update.delta, setup.world.batch_size
  # What is merged from several rounds may be one image's on purpose.
  images = size if setup.attack.num_rounds == 1 else 1
  return [degenerate.reason(_pick(delta, n), images) for n in range(count)]


def score(
  part: plan.Part,
  items: Sequence[experiment.Item],
  outcome: loop.Outcome,
  marks: np.ndarray,
  play: exchange.Play,
  facts: Sequence[Mapping[str, Any]],
) -> tuple[Rows, dict[str, np.ndarray]]:
  """Scores the items of a part.

  Args:
    part: the part.
    items: their truth.
    outcome: what the attack ended with.
    marks: the steps of the trace, [L].
    play: the function of `exchange.player`.
    facts: the further columns of each item.

  Returns:
    Rows that still lack the comparison with their control, and arrays: those of
    the rows, and what the attack made of the controls.
  """
  setup, rows, arrays = part.cohort.setup, [], {}
  for n, (work, item) in enumerate(zip(part.work, items)):
    final, finite = _pick(outcome.final, n), outcome.finite[n]
    if work.control:
      chosen = evaluate.choose(final.score, finite)
      name = _control(work.point.index, work.case)
      arrays[name] = final.batch.x[chosen]
      arrays[f'{name}/score'] = np.float32(final.score[chosen])
      continue
    scored, item_arrays = evaluate.evaluate(
      setup,
      item,
      final,
      _pick(outcome.start, n),
      finite,
      setup.seed,
      functools.partial(play, item),
    )
    rows.append({**_facts(part.cohort, work), **scored, **facts[n]})
    item_arrays |= {'trace': outcome.trace[n], 'trace_step': marks}
    arrays |= {
      result_rows.key(work.row, name): value
      for name, value in item_arrays.items()
    }
  return rows, arrays


def join(
  folder: pathlib.Path, cohorts: Sequence[plan.CohortWork], owner: str
) -> Rows:
  """Joins the parts, if all of them exist.

  Args:
    folder: the workdir.
    cohorts: what there is to run.
    owner: what `identity.owner` returned.

  Returns:
    The rows of `results.jsonl`; no rows if parts are missing.

  Raises:
    ValueError: a part is damaged or another run's, or the workdir cannot be
      written.
  """
  done = plan.finished(folder)
  if plan.parts(cohorts, done):
    return []
  for partial in (*folder.glob('.*.partial'), *folder.glob('parts/.*.partial')):
    partial.unlink(missing_ok=True)
  arrays: dict[str, np.ndarray] = {}
  rows: dict[int, dict[str, Any]] = {}
  for path in plan.files(folder):
    name = plan.owner(owner, path.stem)
    part_rows, part_arrays = workdir.read_part(path, name)
    _check(path, part_rows, part_arrays)
    rows |= {row['row']: row for row in part_rows}
    arrays |= part_arrays
  wanted = {w.row: c.setup for c in cohorts for w in c.work if not w.control}
  if rows.keys() != wanted.keys():
    raise ValueError(
      f'Expected {folder / "parts"} to hold rows 0 to {len(wanted) - 1}; got '
      f'{len(rows)} rows, others than these; remove the parts and run again'
    )
  ordered = []
  for number in sorted(rows):
    row, further = _concluded(rows[number], arrays, wanted[number].scorers)
    ordered.append(result_rows.checked(row))
    arrays |= {
      result_rows.key(number, name): value for name, value in further.items()
    }
  recon = {k: arrays[k] for k in sorted(arrays) if not k.startswith('control/')}
  workdir.write_arrays(folder / 'recon.npz', recon)
  workdir.write_text(folder / 'results.jsonl', result_rows.lines(ordered))
  return ordered


def _check(
  path: pathlib.Path, rows: Rows, arrays: Mapping[str, np.ndarray]
) -> None:
  """Raises ValueError for a part whose rows and arrays this run did not write.

  Args:
    path: the part.
    rows: its rows, before they are concluded.
    arrays: its arrays.
  """
  for row in rows:
    result_columns.check(row, f'a row of {path}', result_columns.UNJUDGED)
  collection.check_arrays(rows, arrays, str(path))
  for row in rows:
    if 'baselines' not in row:
      continue  # nothing to compare with
    size = len(arrays[result_rows.key(row['row'], 'x')])
    names = [*map(set, row['baselines'].values())]
    lengths = {len(v) for s in row['baselines'].values() for v in s.values()}
    if (
      not names
      or any(own != names[0] for own in names)
      or not {'psnr', 'ssim'} <= names[0] <= METRICS.keys()
      or lengths != {size}
    ):
      raise ValueError(
        f'Expected {path} to have the PSNR, SSIM and other metrics of {size} '
        f'images for every baseline of row {row["row"]}; got others; remove it '
        'and run again'
      )


def _concluded(row, arrays, scorers):
  known = 'baselines' in row
  own = {
    name: arrays[result_rows.key(row['row'], name)]
    for name in (('x', 'psnr', 'ssim') if known else ('x_hat',))
  }
  shape = own['x' if known else 'x_hat'].shape[1:]
  # The first case's stands for those of the others, if they have none.
  name = _control(row['point'], row['case'])
  own_control = name in arrays
  if not own_control:
    name = _control(row['point'], 0)
  control = arrays.get(name)
  if control is not None and (
    control.dtype.kind != 'f' or control.shape[1:] != shape
  ):
    raise ValueError(
      f'Expected {name!r} in the parts to hold images of {[*shape]}; got '
      f'{[*control.shape]} of {control.dtype}; remove the parts and run again'
    )
  score = float(arrays.get(f'{name}/score', np.nan))
  row, further = evaluate.conclude(row, own, control, scorers, score)
  if not own_control:
    further.pop('x_noise_gradient', None)
  return row, further


def _pick(tree, n):
  return jax.tree.map(lambda leaf: leaf[n], tree)


def _control(point: int, case: int) -> str:
  return f'control/{point:04d}/{case:04d}'


def _facts(cohort: plan.CohortWork, work: plan.Work) -> dict[str, Any]:
  setup = cohort.setup
  return {
    'row': work.row,
    'point': work.point.index,
    'case': work.case,
    'sweep': dict(work.point.sweep),
    'attack': setup.attack_name,
    'model': setup.net.spec.name,
    'dataset': setup.dataset.name,
    'batch_size': setup.world.batch_size,
    'restarts': setup.restarts,
    'steps': setup.attack.num_steps,
    'grants': sorted(setup.granted),
    'cohort': cohort.number,
    'config_hash': work.point.config_hash,
    'versions': provenance.versions(),
  }
