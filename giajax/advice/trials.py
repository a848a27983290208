"""Trials: an audit that is run again with one change each."""

from collections.abc import Mapping, Sequence
import json
import logging
import os
import pathlib
from typing import Any, NamedTuple

from giajax import paths
from giajax import printable
from giajax import registry
from giajax.advice import changes
from giajax.advice import comparison
from giajax.advice import costs
from giajax.advice import validation
from giajax.engine import build
from giajax.engine import identity
from giajax.engine import own_code
from giajax.engine import run as engine
from giajax.engine import sweep
from giajax.engine import workdir as folders
from giajax.report import advice
from giajax.report import report
from giajax.results import collection
from giajax.results import study

# Keys of a config that training depends on, and one that training sets itself.
_TRAINED, _MODE = ('model', 'defense', 'client'), 'client.train_mode'
_log = logging.getLogger('giajax')


class Audited(NamedTuple):
  """The setting that was audited, with which changed settings are compared.

  Attributes:
    config: the config of the point, resolved.
    recovery: what came back.
    client: one of its clients, for timing.
    folder: where the changed audits are run.
    epochs: the epochs of training under each change; 0 for none.
  """

  config: Mapping[str, Any]
  recovery: comparison.Recovery
  client: costs.CompiledClient
  folder: pathlib.Path
  epochs: int


def advise(
  workdir: str | os.PathLike[str],
  *,
  only: Sequence[str] = (),
  point: int | None = None,
  epochs: int = 0,
  run_code: bool = False,
  command: str = '',
) -> str:
  """Runs an audit again with each change, and says what the change did.

  Args:
    workdir: the workdir of a finished run.
    only: names in `changes.CHANGES`; all of them if empty.
    point: the point of the run's sweep; None if it has only one.
    epochs: the epochs of training under each change; 0 for none.
    run_code: whether Python files that the run's config names may be run.
    command: the command that repeats the call, for the report.

  Returns:
    A line per change.

  Raises:
    ValueError: no finished run, an unknown change, files that are no longer
      those of the run, Python files that may not be run, or a place that cannot
      be written.
  """
  folder = paths.expanded(workdir, 'workdir')
  names = list(only) or list(changes.CHANGES)
  for name in names:
    registry.lookup(changes.CHANGES, name, 'change')
  earlier = collection.advice(folder) or {}
  audited, number = _audited(folder, point, epochs, run_code)
  facts = comparison.facts(audited.recovery)
  _caution(facts)
  same = earlier.get('point') == number
  results = {c['name']: c for c in earlier['changes']} if same else {}
  record: dict[str, Any] = {
    'command': command,
    'point': number,
    'audited': {
      **facts,
      **_costs(audited, audited.config, audited.client, 'audited', True),
    },
    'validation': validation.validation(audited.config),
  }
  for name in names:
    results[name] = _try(name, audited)
    record['changes'] = [results[n] for n in changes.CHANGES if n in results]
    text = json.dumps(record, indent=2) + '\n'
    folders.write_text(folder / 'advice.json', text)
  report.write(folder)
  lines = [_line(record['audited'], results[n]) for n in names]
  return '\n'.join(map(printable.line, lines))


def _caution(facts: Mapping[str, Any]) -> None:
  """Logs, before anything is run, why no change could be ranked."""
  if not facts['recovered']:
    _log.info('the audited attack recovered nothing: no change can be ranked')
  elif facts['updates'] < advice.LEAST_UPDATES:
    _log.info(
      'updates: %d, too few to tell an effect from chance; set cases.count to '
      'at least %d and audit again',
      facts['updates'],
      advice.LEAST_UPDATES,
    )


def _audited(
  folder: pathlib.Path, point: int | None, epochs: int, run_code: bool
) -> tuple[Audited, int]:
  """Returns what was audited, and the number of its point."""
  run = collection.read(folder)
  with run.arrays:
    study.check_run(run)
    chosen = sweep.only(run.meta['config'], point)
    named = own_code.names(chosen.config)
    if named and not run_code:
      raise ValueError(
        f'Expected a config of rows of giajax in {folder}; got {named[0]!r}, '
        'whose file would be run; read it, and add --run_code if it is yours'
      )
    rows = [row for row in run.rows if row['point'] == chosen.index]
    recovery = comparison.recovery(run, rows)
  # A paper's figures cannot be compared with those of a changed system.
  config = {**chosen.config, 'study': {}}
  _require_files(run.meta.get('inputs') or {}, config, folder)
  runs = folder / 'advice' / f'point-{chosen.index}'
  audited = Audited(config, recovery, costs.client(config), runs, epochs)
  return audited, chosen.index


def _require_files(
  before: Mapping[str, str], config: Mapping[str, Any], folder: pathlib.Path
) -> None:
  """Refuses to compare changes with an audit of other files.

  Args:
    before: the sha256 of the files that the whole run read.
    config: of one point, which need not read all of them.
    folder: of the run.
  """
  now = build.experiment(config).inputs
  own = {path: digest for path, digest in before.items() if path in now}
  identity.check(own, now, folder)


def _try(name: str, audited: Audited) -> dict[str, Any]:
  """Returns what a change did, or why it could not be tried."""
  change, folder = changes.CHANGES[name], audited.folder / name
  facts = {'name': name, 'stage': change.stage, 'title': change.title}
  try:
    overrides = change.overrides(audited.config)
    config = sweep.changed(audited.config, overrides)
    _log.info('%s: %s', name, json.dumps(overrides))
    engine.audit(config, folder, finish=report.write)
  except folders.UnusableError:
    raise  # says nothing about the change
  except ValueError as error:
    if not str(error).startswith('Expected'):
      raise
    return {**facts, 'reason': str(error)}
  run = collection.read(folder)
  with run.arrays:
    recovery = comparison.recovery(run, run.rows)
  # `giajax train` sets batches and BatchNorm's mode itself.
  trained = any(k.startswith(_TRAINED) for k in overrides if k != _MODE)
  return {
    **facts,
    'overrides': overrides,
    **comparison.facts(recovery),
    **comparison.compare(audited.recovery, recovery),
    **_costs(audited, config, costs.client(config), name, trained),
  }


def _costs(
  audited: Audited,
  config: Mapping[str, Any],
  client: costs.CompiledClient,
  name: str,
  trained: bool,
) -> dict[str, Any]:
  """Returns what a setting costs, with its accuracy if that was asked for."""
  facts = costs.facts(client, audited.client)
  if trained and audited.epochs:
    folder = audited.folder / name
    facts['accuracy'] = costs.accuracy(config, audited.epochs, folder)
  return facts


def _line(audited: Mapping[str, Any], change: Mapping[str, Any]) -> str:
  if 'reason' in change:
    return f'{change["name"]}: not tried ({change["reason"]})'
  return (
    f'{change["name"]}: {advice.effect(audited, change)}; median PSNR '
    f'{audited["psnr"]:.2f} to {change["psnr"]:.2f} dB, '
    f'{change["recognised"]} of {change["images"]} images recognisable '
    f'(before: {audited["recognised"]} of {audited["images"]})'
  )
