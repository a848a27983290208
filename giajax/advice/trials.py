"""Trials: an audit that is run again with one change each."""

from collections.abc import Mapping, Sequence
import json
import logging
import os
import pathlib
import time
from typing import Any

import jax
import numpy as np

from giajax import keys
from giajax import registry
from giajax import trees
from giajax import types
from giajax.advice import changes
from giajax.attacks import base as attacks
from giajax.defenses import base as defenses
from giajax.engine import build
from giajax.engine import exchange
from giajax.engine import experiment
from giajax.engine import run as engine
from giajax.engine import sweep
from giajax.engine import train
from giajax.engine import workdir as folders
from giajax.engine.sources import simulated
from giajax.models import base as models
from giajax.report import prose
from giajax.report import report
from giajax.results import collection
from giajax.verify import base as checks
from giajax.verify import checkup

_PROBE = 16  # images that a client tries a model on
_TRAINED, _MODE = ('model', 'defense', 'client'), 'client.train_mode'
_RUNS = 3  # of an update, of which the fastest counts
_log = logging.getLogger('giajax')


def advise(
  workdir: str | os.PathLike[str],
  *,
  only: Sequence[str] = (),
  point: int | None = None,
  epochs: int = 0,
  command: str = '',
) -> str:
  """Runs an audit again with each change, and says what it did.

  Args:
    workdir: of a finished run.
    only: names in `changes.CHANGES`; none for all.
    point: which point of the run's sweep, where it has one.
    epochs: of training under each change; 0 for none.
    command: for the record.

  Returns:
    A line a change.

  Raises:
    ValueError: no finished run, an unknown change, or a place that cannot be
      written.
  """
  folder = pathlib.Path(workdir).expanduser()
  table = changes.CHANGES
  for name in only:
    registry.lookup(table, name, 'change')
  audited = collection.read(folder)
  with audited.arrays:
    chosen = sweep.only(audited.meta['config'], point)
    # What is compared here has no paper beside it.
    config, number = {**chosen.config, 'study': {}}, chosen.index
    rows = [row for row in audited.rows if row['point'] == number]
    before = _leakage(audited, rows)
  runs = folder / 'advice' / f'point-{number}'
  earlier = collection.advice(folder) or {}
  same = earlier.get('point') == number
  found = {c['name']: c for c in earlier['changes']} if same else {}
  told: dict[str, Any] = {
    'command': command,
    'point': number,
    'audited': {**before, **_cost(config, epochs, runs / 'audited')},
    'validation': _validation(config),
  }
  for name in only or table:
    tried = _tried(table[name], config, runs / name, epochs)
    found[name] = {'name': name, **tried}
    told['changes'] = [found[n] for n in table if n in found]
    text = json.dumps(told, indent=2) + '\n'
    folders.write_text(folder / 'advice.json', text)
  report.write(folder)
  return '\n'.join(_line(before, found[name]) for name in only or table)


def _tried(change, config, folder, epochs) -> dict[str, Any]:
  """Returns what a change did, or why it could not be tried."""
  facts = {'stage': change.stage, 'title': change.title}
  try:
    overrides = change.overrides(config)
    other = sweep.changed(config, overrides)
    _log.info('%s: %s', folder.name, json.dumps(overrides))
    engine.audit(other, folder, finish=report.write)
  except ValueError as error:
    if not str(error).startswith('Expected'):
      raise
    return {**facts, 'reason': str(error)}
  found = collection.read(folder)
  with found.arrays:
    facts |= {'overrides': overrides, **_leakage(found, found.rows)}
  # `giajax train` sets batches and BatchNorm's mode itself.
  reached = any(k.startswith(_TRAINED) for k in overrides if k != _MODE)
  return {**facts, **_cost(other, epochs if reached else 0, folder)}


def _validation(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what the checks of `giajax verify` say of what the server sends.

  The client has images of its own and no earlier model to compare with. Of
  each case it looks at what its first client gets in the last round.
  """
  setup = build.setup(config)
  size = min(_PROBE, setup.dataset.size)
  view = checks.view(setup.net, setup.world.task)
  cases, turn = range(config['cases']['count']), setup.attack.num_rounds - 1
  own = experiment.probes(size, setup.seed)
  _, probe = simulated.draw(setup.dataset, setup.net.spec, own, 0)
  objections, seconds = [], 0.0
  for case in cases:
    sent = exchange.received(setup, case, turn, 0)
    began = time.perf_counter()
    found = checkup.check(view, types.ServerMessage(sent), probe)
    objections.append(_objections(found))
    seconds += time.perf_counter() - began
  agreed = checkup.check(view, types.ServerMessage(setup.variables), probe)
  return {
    'honest': attacks.is_honest(setup.attack),
    'checks': sum(verdict.ran for verdict in agreed.verdicts.values()),
    'models': len(cases),
    'refused': sum(bool(found) for found in objections),
    'evidence': objections[0],
    'agreed': _objections(agreed),
    'seconds': seconds / len(cases),
  }


def _objections(found: checkup.Checkup) -> dict[str, str]:
  return {name: found.verdicts[name].evidence for name in found.flagged}


def _leakage(
  run: collection.Run, rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
  """Returns medians over the images, and how many can be recognised."""

  def middle(metric):
    values = [v for row in rows for v in collection.scores(run, row, metric)]
    return float(np.median(np.nan_to_num(values, nan=-np.inf)))

  seen = np.concatenate([prose.recognised(run, row) for row in rows])
  return {
    'psnr': middle('psnr'),
    'ssim': middle('ssim'),
    'recognised': int(seen.sum()),
    'images': int(seen.size),
  }


def _cost(
  config: Mapping[str, Any], epochs: int, folder: pathlib.Path
) -> dict[str, Any]:
  """Returns what a setting costs the clients.

  'client_seconds' of one client's update, 'parameters' that it sends,
  'fidelity' the cosine between the update and the one without its defence, and
  'accuracy' of the trained network if `epochs` is not 0.
  """
  cases = config['cases']
  plain = {**config, 'run': {**config['run'], 'lowering': 'lax'}}
  share = cases['batch_size'] // cases['clients']
  made = build.system(plain, share)
  setup = build.setup(plain)
  batch = simulated.item(setup, 0).batch
  batch = jax.tree.map(lambda leaf: leaf[:share], batch)
  message = types.ServerMessage(setup.variables)
  key = jax.random.key(config['seed'])
  protected = defenses.protect(made.client, made.defense)
  sent, seconds = _timed(protected.update, key, message, batch)
  own = keys.named(key, 'client')  # as the protected client draws
  without, _ = _timed(made.client.update, own, message, batch)
  costs = {
    'client_seconds': seconds,
    'parameters': models.count(setup.variables),
    'fidelity': float(_cosine(sent.delta, without.delta)),
  }
  if epochs:
    path = folder.with_name(f'{folder.name}-{epochs}-epochs.npz')
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.with_suffix('.json').is_file():
      size = min(train.Plan().batch_size, setup.dataset.size)
      training = train.Plan(epochs=epochs, batch_size=size)
      train.train_config(config, str(path), training)
    facts = json.loads(path.with_suffix('.json').read_text(encoding='utf-8'))
    costs['accuracy'] = facts['accuracy']
  return costs


def _timed(update, *args) -> tuple[types.Update, float]:
  compiled = jax.jit(lambda *a: update(*a)[0]).lower(*args).compile()
  times = []
  for _ in range(_RUNS):
    began = time.perf_counter()
    sent = jax.block_until_ready(compiled(*args))
    times.append(time.perf_counter() - began)
  return sent, min(times)


def _cosine(a: types.Tree, b: types.Tree) -> types.Array:
  norms = trees.squared_norm(a) * trees.squared_norm(b)
  return trees.dot(a, b) / trees.safe_sqrt(norms, 1e-38)


def _line(before: Mapping[str, Any], change: Mapping[str, Any]) -> str:
  if 'reason' in change:
    return f'{change["name"]}: not tried ({change["reason"]})'
  return (
    f'{change["name"]}: median PSNR {before["psnr"]:.2f} to '
    f'{change["psnr"]:.2f} dB, {change["recognised"]} of {change["images"]} '
    f'images recognisable (before: {before["recognised"]} of '
    f'{before["images"]})'
  )
