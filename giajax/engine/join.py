"""From a part's outcome to rows, and from all rows to the files of a run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from giajax.results import parquet
from giajax.results import rows as result_rows
from giajax.results import stacks

Rows = list[dict[str, Any]]
_Concluded = tuple[dict[str, Any], dict[str, np.ndarray]]  # a row, its arrays
# What a part holds of its controls: their points and cases [N, 2], images, and
# the attacker's score.
_CONTROL = ('control/at', 'control/x', 'control/score')
_AGAIN = 'remove the parts and run again'


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
    Rows that still lack the comparison with their control, and arrays: the
    block of the rows, and what the attack made of the controls.
  """
  setup, rows, controls = part.cohort.setup, [], []
  arrays: dict[int, dict[str, np.ndarray]] = {}
  attacked = [
    evaluate.Attacked(item, *(_pick(tree, n) for tree in outcome[:3]))
    for n, item in enumerate(items)
  ]
  choices = _choices(setup, part.work, attacked)
  for n, (work, own) in enumerate(zip(part.work, attacked)):
    if work.control:
      final = own.reconstruction
      restart = evaluate.choose(final.score, own.finite)
      at = work.point.index, work.case
      controls.append((at, final.batch.x[restart], final.score[restart]))
      continue
    scored, item_arrays = evaluate.evaluate(
      setup,
      own,
      setup.seed,
      functools.partial(play, own.item),
      choices.get(n),
    )
    rows.append({**_facts(part.cohort, work), **scored, **facts[n]})
    item_arrays |= {'trace': outcome.trace[n], 'trace_step': marks}
    arrays[work.row] = item_arrays
  members = stacks.block(0, arrays) if arrays else {}
  made = zip(_CONTROL, zip(*controls))
  return rows, members | {name: np.asarray(values) for name, values in made}


def _choices(
  setup: experiment.Setup,
  work: Sequence[plan.Work],
  attacked: Sequence[evaluate.Attacked],
) -> dict[int, evaluate.Chosen]:
  """Returns what was chosen of the updates that are scored, by their place."""
  places = [
    n
    for n, (one, own) in enumerate(zip(work, attacked))
    if not one.control and own.item.batch is not None
  ]
  return dict(
    zip(places, evaluate.chosen(setup, [attacked[n] for n in places]))
  )


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
  setups = {w.row: c.setup for c in cohorts for w in c.work if not w.control}
  rows: Rows = []
  concluded = _all_concluded(folder, owner, setups)
  workdir.write_arrays(folder / 'recon.npz', _blocks(concluded, rows))
  rows.sort(key=lambda row: row['row'])
  workdir.write_text(folder / 'results.jsonl', result_rows.lines(rows))
  with workdir.writing(folder):
    parquet.write(folder / 'results.parquet', rows)
  return rows


def _all_concluded(
  folder: pathlib.Path, owner: str, setups: Mapping[int, experiment.Setup]
) -> Iterator[_Concluded]:
  """Yields each row as it is written, one part after the other."""
  controls, seen = {}, set()
  if any(setup.noise_controls for setup in setups.values()):
    controls = _controls(folder, owner)
  for path in plan.files(folder):
    with workdir.part(path, plan.owner(owner, path.stem)) as (rows, members):
      arrays = stacks.Stacks(members, str(path), _AGAIN)
      _check(path, rows, arrays)
      for row in rows:
        number = row['row']
        if number in seen:  # two shards did the same
          continue
        seen.add(number)
        if number not in setups:
          break
        own = {
          name: arrays[result_rows.key(number, name)]
          for name in arrays.names(number)
        }
        scorers = setups[number].scorers
        row, further = _concluded(row, own, controls, scorers)
        yield result_rows.checked(row), own | further
  if seen != setups.keys():
    raise ValueError(
      f'Expected {folder / "parts"} to hold rows 0 to {len(setups) - 1}; got '
      f'{len(seen)} rows, others than these; {_AGAIN}'
    )


def _controls(
  folder: pathlib.Path, owner: str
) -> dict[tuple[int, int], tuple[np.ndarray, float]]:
  """Returns what was made of each control, and its score, by point and case."""
  made = {}
  for path in plan.files(folder):
    with workdir.part(path, plan.owner(owner, path.stem)) as (_, members):
      if _CONTROL[0] not in members:
        continue
      if any(name not in members for name in _CONTROL):
        raise ValueError(
          f'Expected {path} to hold {", ".join(_CONTROL)}; got some of them; '
          f'{_AGAIN}'
        )
      places, images, scores = (members[name] for name in _CONTROL)
      if places.shape != (len(images), 2) or scores.shape != (len(images),):
        raise ValueError(
          f'Expected {path} to hold a point, a case and a score of each '
          f'control; got others; {_AGAIN}'
        )
      for place, x, score in zip(places.tolist(), images, scores):
        made[tuple(place)] = x, float(score)
  return made


def _blocks(
  concluded: Iterable[_Concluded], rows: Rows
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields the members of all blocks, and appends their rows to `rows`."""
  number, block, cohort, size = 0, {}, -1, 0
  for row, arrays in concluded:
    if block and (row['cohort'] != cohort or len(block) >= size):
      yield from stacks.block(number, block).items()
      number, block = number + 1, {}
    if not block:  # the rows of a cohort are alike
      cohort, size = row['cohort'], stacks.rows_per_block(arrays)
    block[row['row']] = arrays
    rows.append(row)
  yield from stacks.block(number, block).items()


def _check(path: pathlib.Path, rows: Rows, arrays: stacks.Stacks) -> None:
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


def _concluded(row, arrays, controls, scorers) -> _Concluded:
  known = 'baselines' in row
  own = {n: arrays[n] for n in (('x', 'psnr', 'ssim') if known else ('x_hat',))}
  shape = own['x' if known else 'x_hat'].shape[1:]
  # The first case's stands for those of the others, if they have none.
  place = row['point'], row['case']
  own_control = place in controls
  if not own_control:
    place = row['point'], 0
  control, score = controls.get(place, (None, np.nan))
  if control is not None and (
    control.dtype.kind != 'f' or control.shape[1:] != shape
  ):
    raise ValueError(
      f'Expected the control of case {place[1]} at point {place[0]} to hold '
      f'images of {[*shape]}; got {[*control.shape]} of {control.dtype}; '
      f'{_AGAIN}'
    )
  row, further = evaluate.conclude(row, own, control, scorers, score)
  if not own_control:
    further.pop('x_noise_gradient', None)
  return row, further


def _pick(tree, n):
  return jax.tree.map(lambda leaf: leaf[n], tree)


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
