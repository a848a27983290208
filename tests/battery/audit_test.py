"""Tests of giajax.battery: what fits is tried, in the time that there is."""

import collections
import json
import types

import captures
import jax
import pytest

from giajax import archives
from giajax.battery import audit
from giajax.battery import BATTERY
from giajax.battery import battery
from giajax.battery import FALLBACK
from giajax.battery import pilot
from giajax.battery import TIMED
from giajax.engine import build
from giajax.engine import hooks as status
from giajax.engine import schema
from giajax.engine import systems
from giajax.engine import tensors
from giajax.models import convert
from giajax.report import report


def _config(folder, client=captures.CLIENT, model=captures.MODEL, **changes):
  return audit.config_of(
    model=model,
    sent=str(folder / 'sent.npz'),
    received=str(folder / 'received.npz'),
    client=client,
    input_shape=captures.SHAPE,
    num_classes=captures.CLASSES,
    **{'truth': str(folder / 'truth.npz'), **changes},
  )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Returns the folder of a capture of one image."""
  path = tmp_path_factory.mktemp('capture')
  captures.write(path)
  return path


@pytest.fixture(autouse=True)
def brief(monkeypatch):
  """Makes attacks short."""
  monkeypatch.setattr(battery, 'LEAST_STEPS', 10)
  monkeypatch.setattr(battery, 'MOST_STEPS', 10)
  monkeypatch.setattr(battery, 'RESTARTS', 2)


def test_networks_and_files_are_built_once(folder, tmp_path, monkeypatch):
  calls = collections.Counter()

  def counted(module, name):
    function = getattr(module, name)

    def call(*args, **kwargs):
      calls[name] += 1
      return function(*args, **kwargs)

    monkeypatch.setattr(module, name, call)

  counted(systems, 'system')
  counted(tensors, 'read')
  audit.audit(
    _config(folder),
    tmp_path / 'run',
    only=['linear layer', 'inverting gradients'],
  )
  assert calls == {'system': 1, 'read': 2}  # what was sent, and what came back


def test_whole_audit(folder, tmp_path):
  config = _config(folder)
  rows = audit.audit(config, tmp_path / 'run', finish=report.write)
  by_name = {row['sweep']['variant']: row for row in rows}
  # An image before a linear layer is in its gradient.
  assert by_name['linear layer']['verdict'] == 'leaks'
  assert 'inverting gradients' in by_name
  found = json.loads((tmp_path / 'run' / 'summary.json').read_text())
  assert found['verdict'] == 'leaks'
  assert found['worst']['sweep'] == {'variant': 'linear layer'}
  assert 'reproduces the update' in found['checks'][0]
  page = (tmp_path / 'run' / 'report.html').read_text()
  assert 'Not tried, because it does not fit' in page and 'APRIL' in page
  # The same again: nothing is planned or run twice.
  assert audit.audit(config, tmp_path / 'run') == rows
  with pytest.raises(ValueError, match='was made with'):
    audit.audit(config, tmp_path / 'run', only=['linear layer'])
  with pytest.raises(ValueError, match='attack of the battery'):
    audit.audit(config, tmp_path / 'run', only=['nonsense'])
  other = _config(folder, seed=1)
  with pytest.raises(ValueError, match='seed'):
    audit.audit(other, tmp_path / 'run', only=['linear layer'])


def test_only_what_is_asked_for(folder):
  plan = battery.plan(_config(folder), 1, ['linear layer'])
  assert [v['name'] for v in plan.config['sweep']['variant']] == [
    'linear layer'
  ]
  with pytest.raises(
    ValueError, match='Expected a known attack of the battery'
  ):
    battery.plan(_config(folder), 1, ['nonsense'])
  with pytest.raises(
    ValueError,
    match=r'got only APRIL, which needs learned positions.*\); choose another$',
  ):
    battery.plan(_config(folder), 1, ['APRIL'])


def test_what_the_server_knows_of_the_steps(tmp_path):
  client = {**captures.CLIENT, 'batch_size': 1}
  captures.write(tmp_path, 2, client=client)
  config = _config(tmp_path, client=client)
  plan = battery.plan(config, 1, ['inverting gradients'])
  beliefs = {
    v['name']: v.get('belief') for v in plan.config['sweep']['variant']
  }
  fixed = beliefs['inverting gradients (in a fixed order of steps)']
  assert fixed == {**client, 'shuffle': False}
  naive = beliefs['inverting gradients (as one gradient)']
  assert naive == {'name': 'one_gradient', 'train_mode': True}
  assert beliefs['inverting gradients'] is None
  whole = build.experiment(plan.config)
  assert len(whole.points) == 3


def test_number_of_images(folder):
  assert _config(folder)['cases']['batch_size'] == 1
  client = {**captures.CLIENT, 'batch_size': 4}
  unknown = _config(folder, truth='', client=client)
  assert unknown['cases']['batch_size'] == 4
  assert _config(folder, truth='', examples=3)['cases']['batch_size'] == 3
  with pytest.raises(ValueError, match='Expected examples'):
    _config(folder, truth='')


def test_nothing_of_a_workdir_is_run(folder, tmp_path):
  config = _config(folder)
  audit.audit(config, tmp_path / 'run', only=['linear layer'])
  path = tmp_path / 'run' / 'config.json'
  there = json.loads(path.read_text())
  code = tmp_path / 'evil.py'
  code.write_text('raise SystemExit("run")')
  (variant,) = there['config']['sweep']['variant']
  variant['attack'] = {'name': f'{code}:attack', 'num_steps': 10}
  there['hash'] = schema.config_hash(there['config'])
  path.write_text(json.dumps(there))
  with pytest.raises(ValueError, match='was made with'):
    audit.audit(config, tmp_path / 'run', only=['linear layer'])


def test_networks_of_unknown_layers_have_a_fallback(folder, monkeypatch):
  monkeypatch.setattr(battery, 'BATTERY', {})
  plan = battery.plan(_config(folder), 1)
  variants = plan.config['sweep']['variant']
  assert [v['name'] for v in variants] == [*battery.FALLBACK]
  assert variants[1]['attack'] == {'name': 'dlg', 'num_steps': 10}


@pytest.mark.parametrize('minutes', [0, -1, float('nan'), float('inf')])
def test_time(folder, tmp_path, minutes):
  with pytest.raises(ValueError, match='minutes above 0'):
    audit.audit(_config(folder), tmp_path / 'run', minutes=minutes)


def test_rows_name_attacks():
  for name, row in BATTERY.items():
    assert row.keys() <= {'attack', 'labels'} and row['attack']['name'], name
  assert {*TIMED} <= {*BATTERY, *FALLBACK}
  assert not any(',' in name for name in (*BATTERY, *FALLBACK))  # for --only


def test_every_timed_attack_is_timed(folder, monkeypatch):
  """A step of all of them fits into the minutes, and so does the rest."""
  clock = types.SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
  paces = {'inverting gradients': 0.1, 'inverting gradients (weak prior)': 0.3}
  compiling, warming, scoring = 10.0, 5.0, 20.0
  timed = []

  def attempt(config, folder, hooks, grounds):
    del folder, grounds
    clock.now += compiling + scoring
    for variant in config['sweep']['variant']:
      timed.append(variant['name'])
      pace, total = paces[variant['name']], variant['attack']['num_steps']
      clock.now += warming + total * pace
      for step in (1, 3, total):
        passed = warming + step * pace
        hooks[0](status.Status(step, total, 2, 2, 0.0, passed))

  for module in (battery, pilot):
    monkeypatch.setattr(module, 'time', clock)
  monkeypatch.setattr(pilot.engine, 'audit', attempt)
  monkeypatch.setattr(battery, 'MOST_STEPS', 10_000)
  plan = battery.plan(_config(folder), 10, [*paces])
  assert timed == [*paces]
  (steps,) = {v['attack']['num_steps'] for v in plan.config['sweep']['variant']}
  rest = compiling + scoring + len(paces) * warming
  whole = clock.now + rest + steps * sum(paces.values())
  assert 0.9 * 600 < whole <= 600
  # What compiles for half of the time leaves none for steps.
  compiling = 301.0
  plan = battery.plan(_config(folder), 10, [*paces])
  (steps,) = {v['attack']['num_steps'] for v in plan.config['sweep']['variant']}
  assert steps == battery.LEAST_STEPS and timed == [*paces, *paces][:3]


def test_what_is_left_out_says_what_it_needs(folder):
  """In one short line each, without advice for authors of configs."""
  left_out = battery.plan(_config(folder), 1).left_out
  assert left_out == {
    'APRIL': 'needs learned positions, which the client trains (got mlp '
    'without them)',
    'BatchNorm buffers (weak prior)': 'needs a network with BatchNorm layers '
    '(got mlp)',
    'BatchNorm buffers': 'needs a network with BatchNorm layers (got mlp)',
  }


def test_buffers_that_an_update_lacks(tmp_path):
  client = {'name': 'fedsgd', 'train_mode': True}
  model = {'name': 'convnet', 'width': 4}
  sent, received = captures.write(tmp_path, model=model, client=client)
  change = jax.tree.map(lambda a, b: a - b, sent.params, received.params)
  gradient = sent._replace(params=change, stats={})
  archives.write(tmp_path / 'received.npz', convert.to_state_dict(gradient))
  config = _config(tmp_path, client=client, model=model, form='gradient')
  only = ['BatchNorm buffers', 'SPEAR', 'inverting gradients']
  left_out = battery.plan(config, 1, only, steps=7).left_out
  assert left_out['BatchNorm buffers'] == (
    'needs bn_buffers_after, which nobody knows of this captured update'
  )
  assert left_out['SPEAR'].startswith(
    'needs a network whose first layer is linear over all pixels, with a bias '
    '(got convnet'
  )


def test_only_timed_attacks_get_the_steps(folder):
  plan = battery.plan(_config(folder), 1)
  steps = {
    v['name']: v['attack'].get('num_steps')
    for v in plan.config['sweep']['variant']
  }
  assert steps['inverting gradients'] == 10
  assert steps['linear layer'] is None and steps['SPEAR'] is None
