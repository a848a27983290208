"""Small experiments, each of which lays its work out in another way."""

import hashlib
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from tests import tiny
from tests.campaign import processes

# What differs from run to run.
_TIMES = ('seconds_per_update', 'compile_seconds')
_SEVERAL = dict(attack__num_steps=4000, cases__count=3, noise_controls=0)
# The number of devices, and what differs from `tiny.config`.
EXPERIMENTS: dict[str, tuple[int, dict[str, Any]]] = {
  'one device': (1, dict(attack__num_steps=4000)),
  'two devices': (2, dict(_SEVERAL, run__cases_per_batch=2)),
  'eight devices': (8, dict(_SEVERAL, run__cases_per_batch=2, restarts=5)),
  'groups': (
    2,
    dict(
      restarts=3,
      model=dict(name='resnet18', blocks=(1,), width=0.05),
      attack=dict(name='grad_inversion', num_steps=200),
      threat__grants=('labels', 'bn_buffers_before'),
    ),
  ),
  'fedavg': (
    1,
    dict(
      attack__num_steps=2000,
      cases__batch_size=2,
      client=dict(name='fedavg', learning_rate=0.01, epochs=2, batch_size=1),
    ),
  ),
  'malicious rounds': (
    1,
    dict(
      cases__batch_size=2,
      attack=dict(name='fishing', num_steps=3000, feature_rounds=2),
      threat__grants=('labels', 'alter_parameters'),
    ),
  ),
}


class Experiment(NamedTuple):
  """An experiment, and what comes out if nobody disturbs it.

  Attributes:
    config: the path of its config.
    devices: the number of devices that it runs on.
    bits: the hash of its results.
    seconds: how long it takes once its programs are compiled.
  """

  config: pathlib.Path
  devices: int
  bits: str
  seconds: float


_done: dict[str, Experiment] = {}


def experiment(name: str, lab: processes.Lab) -> Experiment:
  """Returns an experiment of `EXPERIMENTS`, after it ran undisturbed."""
  if name not in _done:
    _done[name] = _undisturbed(name, lab)
  return _done[name]


def _undisturbed(name: str, lab: processes.Lab) -> Experiment:
  devices, changes = EXPERIMENTS[name]
  run = dict(run__save_seconds=0.0, run__cases_per_batch=1)
  own = lab.shared / name.replace(' ', '-')
  own.mkdir()
  changes = ', '.join(f'{k}={v!r}' for k, v in (run | changes).items())
  config = tiny.write(own / 'config.py', changes)
  for workdir in (own / 'compiling', own / 'undisturbed'):
    arguments = f'--config={config}', f'--workdir={workdir}'
    ending = lab.start(*arguments, devices=devices).finished(600)
    if ending.verdict != 'accepted':
      raise RuntimeError(f'{name} fails undisturbed:\n{ending.errors}')
  if bits(own / 'compiling') != bits(own / 'undisturbed'):
    raise RuntimeError(f'{name} differs from run to run')
  return Experiment(config, devices, bits(workdir), ending.seconds)


def bits(workdir: pathlib.Path) -> str:
  """Returns the hash of the results of a workdir, without times."""
  digest = hashlib.sha256()
  for line in (workdir / 'results.jsonl').read_text().splitlines():
    row = json.loads(line)
    fixed = {key: row[key] for key in row if key not in _TIMES}
    digest.update(json.dumps(fixed).encode())
  with np.load(workdir / 'recon.npz') as arrays:
    for name in sorted(arrays.files):
      array = arrays[name]
      digest.update(f'{name} {array.dtype} {array.shape}'.encode())
      digest.update(array.tobytes())
  return digest.hexdigest()
