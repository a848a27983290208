"""The one runner: an experiment from a config to a report.

  audit(config, workdir)
    points -> cohorts (one compilation each) -> parts (what memory holds)
    a part: observe -> init -> chunks, saved and resumable -> read -> evaluate
"""

from collections.abc import Mapping, Sequence
import json
import logging
import os
import pathlib
import platform
import signal
import sys
import threading
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import giajax
from giajax import threat
from giajax import types
from giajax.engine import build
from giajax.engine import checkpoint
from giajax.engine import evaluate
from giajax.engine import hooks as hook_library
from giajax.engine import mesh
from giajax.engine import program as programs
from giajax.engine import round as rounds
from giajax.engine import sweep
from giajax.engine import workdir as folders
from giajax.report import report

# What the observed updates of one part may take on the host and each device.
_PART_BYTES = 1e9


class Interrupted(Exception):  # noqa: N818 it is no error
  """The run was asked to stop, and saved first."""


class Part(NamedTuple):
  """Items of one cohort that run together."""

  name: str
  points: Sequence[sweep.Point]  # of the items, one each
  cases: Sequence[int]
  controls: Sequence[bool]


def audit(
  config: Mapping[str, Any],
  workdir: str | os.PathLike[str],
  *,
  hooks: Sequence[hook_library.Hook] = (),
  shard: tuple[int, int] = (0, 1),
  card: str = '',
  command: str = '',
) -> list[dict[str, Any]]:
  """Runs an experiment, or what is left of it, and writes its report.

  Args:
    config: see `build.DEFAULTS`.
    workdir: where results go. Running the same config again continues.
    hooks: called between chunks.
    shard: (i, n): run only every n-th part, beginning with the i-th. The
      report is written by whoever finds all parts finished.
    card: the experiment in words, for the report.
    command: how to run it again, for the report.

  Returns:
    The rows of `results.jsonl`; only this shard's if others are missing.

  Raises:
    ValueError: a user's mistake, in one line.
    Interrupted: SIGTERM or SIGINT arrived; everything is saved.
  """
  folder = pathlib.Path(workdir)
  points = sweep.expand(config)
  index, count = shard
  if not 0 <= index < count:
    raise ValueError(
      f'Expected shard i/n with 0 <= i < n; got {index}/{count}; number them '
      'from 0'
    )
  meta = _meta(config, points[0], card, command)
  lock = 'run' if count == 1 else f'shard-{index}-of-{count}'
  with folders.locked(folder, lock), _Stop() as stop:
    built = [(group, _setup(group[0])) for group in sweep.cohorts(points)]
    folders.claim(folder, {**meta, **_dataset_meta(built[0][1])})
    parts = [
      (setup, part)
      for number, (group, setup) in enumerate(built)
      for part in _parts(number, group, setup)
    ]
    for number, (setup, part) in enumerate(parts):
      if number % count == index:
        _run_part(folder, setup, part, hooks, stop)
    finished = [folders.read_part(_path(folder, p)) for _, p in parts]
    rows = [row for found in finished if found for row in found[0]]
    if all(finished):
      _finish(folder, [found for found in finished if found])
  return sorted(rows, key=lambda row: row['row'])


def _setup(point: sweep.Point) -> build.Setup:
  return build.setup(dict(point.config))


def _parts(
  number: int, group: Sequence[sweep.Point], setup: build.Setup
) -> list[Part]:
  """Splits a cohort into parts that fit memory; the same on every shard."""
  config = group[0].config
  items = []
  for point in group:
    cases = range(config['cases']['count'])
    items += [(point, case, False) for case in cases]
    if config['noise_control'] and setup.attack.num_steps:
      items.append((point, 0, True))
  leaves = jax.tree.leaves(setup.variables)
  size = sum(leaf.size for leaf in leaves) * 4
  limit = config['run']['cases_per_batch'] or max(1, int(_PART_BYTES / size))
  count = -(-len(items) // limit)
  width = -(-len(items) // count)
  return [
    Part(f'{number:03d}-{i:03d}', *zip(*items[i * width : (i + 1) * width]))
    for i in range(count)
  ]


def _path(folder: pathlib.Path, part: Part) -> pathlib.Path:
  return folder / 'parts' / f'{part.name}.npz'


def _run_part(folder, setup, part, hooks, stop):
  """Runs one part to its end and keeps its results."""
  path = _path(folder, part)
  if path.exists():
    return
  began = time.time()
  config = dict(part.points[0].config)
  items = [
    rounds.item(setup, config, case, control)
    for case, control in zip(part.cases, part.controls)
  ]
  obs = rounds.observe(setup, items, config['seed'])
  limit = config['run']['restarts_per_batch']
  where = mesh.layout(
    len(items),
    config['restarts'],
    limit or programs.restarts_per_batch(setup.world),
  )
  compiled = programs.program(setup.attack, where)
  knobs = [build.hparams(p.config, setup.attack) for p in part.points]
  inputs = _inputs(config, part, obs, knobs, where)
  saved = folder / 'checkpoints' / part.name
  final, first, finite, trace, steps = _attack(
    setup, compiled, inputs, config, saved, hooks, stop
  )
  rows, arrays = _evaluate(
    setup, part, items, final, first, finite, trace, steps
  )
  seconds = (time.time() - began) / len(items)
  for row in rows:
    row['seconds'] = seconds
  if jax.process_index() == 0:
    folders.write_arrays(path, {'rows': np.str_(json.dumps(rows)), **arrays})
    checkpoint.remove(saved)


def _inputs(config, part, obs, knobs, where):
  """Returns (query, seen, hp, seeds) as global arrays, items padded."""
  pad = where.items - len(part.cases)

  def padded(leaf):
    return np.concatenate([leaf, np.repeat(leaf[-1:], pad, axis=0)])

  seen = jax.tree.map(padded, (obs.update, obs.side))
  hp = jax.tree.map(lambda *v: padded(np.stack(v)), *knobs) if knobs[0] else {}
  seeds = programs.seeds(
    config['seed'], list(part.cases), list(part.controls), where
  )
  item = mesh.P(mesh.ITEM)
  return (
    mesh.put(obs.query, where, mesh.P()),
    mesh.put(seen, where, item),
    mesh.put(hp, where, item),
    mesh.put(seeds, where, mesh.P(mesh.ITEM, mesh.RESTART)),
  )


def _attack(setup, compiled, inputs, config, saved, hooks, stop):
  """Runs the steps of one part; resumes where it was saved."""
  query, seen, hp, seeds = inputs
  total, records = setup.attack.num_steps, config['records']
  chunks = min(records, total)
  marks = np.round(np.linspace(0, total, chunks + 1)).astype(np.int32)
  carry = compiled.init(query, seen, hp, seeds)
  first = mesh.fetch(compiled.read(query, seen, hp, carry))
  where = compiled.where
  trace = np.zeros((where.items, where.restarts, chunks), np.float32)
  began, last_save = time.time(), time.time()
  if total:
    with checkpoint.manager(saved) as opened:
      done, carry, trace = checkpoint.restore(opened, carry, trace)
      trace = np.array(trace)
      if done:
        logging.info('continuing at step %d of %d', marks[done], total)
      for chunk in range(done, chunks):
        t0, t1 = jnp.int32(marks[chunk]), jnp.int32(marks[chunk + 1])
        carry = compiled.chunk(query, seen, hp, seeds, carry, t0, t1)
        trace[:, :, chunk] = mesh.fetch(carry.loss)
        status = _status(
          compiled, inputs, carry, trace[:, :, chunk], int(marks[chunk + 1]),
          total, began,
        )
        for hook in hooks:
          hook(status)
        due = time.time() - last_save >= config['run']['save_seconds']
        if stop.asked or (due and chunk + 1 < chunks):
          checkpoint.save(opened, chunk + 1, carry, trace)
          last_save = time.time()
        if stop.asked:
          opened.wait_until_finished()
          raise Interrupted(f'saved at step {marks[chunk + 1]} of {total}')
  final = mesh.fetch(compiled.read(query, seen, hp, carry))
  alive = mesh.fetch(carry.alive)
  finite = alive & np.isfinite(final.score)
  return final, first, finite, trace, marks[1:]


def _status(compiled, inputs, carry, losses, step, total, began):
  query, seen, hp, _ = inputs

  def previews():
    found = mesh.fetch(compiled.read(query, seen, hp, carry))
    return found.batch.x[:, 0].reshape(-1, *found.batch.x.shape[-3:])

  alive = mesh.fetch(carry.alive)
  return hook_library.Status(
    step=step,
    steps=total,
    alive=int(alive.sum()),
    restarts=alive.size,
    best=float(np.min(losses)),
    seconds=time.time() - began,
    images=previews,
  )


def _evaluate(setup, part, items, final, first, finite, trace, steps):
  """Scores the items of a part, without padding."""
  config = part.points[0].config
  restarts = config['restarts']
  pick = lambda tree, n: jax.tree.map(lambda leaf: leaf[n, :restarts], tree)
  control = {
    point.index: _chosen(pick(final, n), finite[n, :restarts])
    for n, (point, item) in enumerate(zip(part.points, items))
    if item.control
  }
  rows, arrays = [], {}
  for n, (point, item) in enumerate(zip(part.points, items)):
    if item.control:
      continue
    scored, kept = evaluate.evaluate(
      setup,
      item,
      pick(final, n),
      pick(first, n),
      finite[n, :restarts],
      control.get(point.index),
      config['seed'],
    )
    number = point.index * config['cases']['count'] + item.case
    rows.append({'row': number, **_facts(setup, point, item), **scored})
    kept |= {'trace': trace[n, :restarts], 'trace_step': steps}
    arrays |= {f'{number:04d}/{k}': v for k, v in kept.items()}
  return rows, arrays


def _chosen(found: types.Reconstruction, finite: np.ndarray) -> np.ndarray:
  return found.batch.x[evaluate.choose(found.score, finite)]


def _facts(setup, point, item) -> dict[str, Any]:
  setting, reasons = setup.setting
  config = point.config
  return {
    'point': point.index,
    'case': item.case,
    'sweep': dict(point.overrides),
    'attack': config['attack']['name'],
    'model': setup.net.spec.name,
    'dataset': setup.dataset.name,
    'batch_size': setup.world.batch_size,
    'restarts': config['restarts'],
    'steps': setup.attack.num_steps,
    'grants': sorted(setup.granted),
    'setting': setting,
    'setting_reasons': reasons,
    'config_hash': build.config_hash(config),
    'versions': versions(),
  }


def _finish(folder, parts):
  """Joins the parts and writes the report."""
  rows = sorted((r for found, _ in parts for r in found), key=lambda r: r['row'])
  arrays = {k: v for _, kept in parts for k, v in kept.items()}
  lines = ''.join(json.dumps(_jsonable(row)) + '\n' for row in rows)
  folders.write_arrays(
    folder / 'recon.npz', {k: arrays[k] for k in sorted(arrays)}
  )
  folders.write_text(folder / 'results.jsonl', lines)
  try:
    report.write(folder)
  except OSError as error:
    raise folders.unwritable(folder, error) from error


def _jsonable(value: Any) -> Any:
  """NaN and infinities as null, which JSON has."""
  if isinstance(value, dict):
    return {k: _jsonable(v) for k, v in value.items()}
  if isinstance(value, float) and not np.isfinite(value):
    return None
  return value


def _meta(config, point, card, command) -> dict[str, Any]:
  resolved = build.resolve(config)
  level = resolved['threat']['level']
  granted = threat.grants(level, resolved['threat']['grants'])
  return {
    'config': resolved,
    'hash': build.config_hash(resolved),
    'card': card,
    'command': command,
    'versions': versions(),
    'device': f'{jax.devices()[0].device_kind} x{jax.device_count()}',
    'threat': {'level': level, **threat.describe(granted)},
  }


def _dataset_meta(setup: build.Setup) -> dict[str, Any]:
  return {
    'class_names': list(setup.dataset.class_names),
    'data_note': setup.dataset.note,
  }


def versions() -> dict[str, str]:
  """Returns the versions that a result depends on."""
  return {
    'giajax': giajax.__version__,
    'jax': jax.__version__,
    'numpy': np.__version__,
    'python': platform.python_version(),
  }


class _Stop:
  """Turns SIGTERM and SIGINT into a flag that the loop reads."""

  def __init__(self):
    self.asked = False
    self._old = {}

  def __enter__(self):
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGTERM, signal.SIGINT):
        self._old[number] = signal.signal(number, self._ask)
    return self

  def _ask(self, number, frame):
    if self.asked:
      sys.exit(128 + number)
    self.asked = True

  def __exit__(self, *args):
    for number, handler in self._old.items():
      signal.signal(number, handler)
