"""Tests of captured updates: read, checked, attacked, scored or not."""

import captures
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from giajax import archives
from giajax.engine import build
from giajax.engine import plan
from giajax.engine import run as engine
from giajax.models import convert
from giajax.report import report
from giajax.results import columns


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Returns the folder of a capture of one image."""
  path = tmp_path_factory.mktemp('capture')
  captures.write(path)
  return path


def _setup(config):
  return build.setup(build.resolve(config))


def _refused(config, *words):
  with pytest.raises(ValueError, match='Expected') as error:
    setup = _setup(config)
    setup.source.check(setup)
  text = str(error.value)
  assert '\n' not in text and '; got ' in text
  for word in words:
    assert word in text


def test_update_is_what_the_client_did(folder):
  setup = _setup(captures.config(folder))
  item = setup.source.item(setup, 0)
  message = setup.message
  play = jax.jit(setup.client.update)
  played, _ = play(jax.random.key(7), message, item.batch)
  for got, wanted in zip(
    jax.tree.leaves(setup.source.update.delta), jax.tree.leaves(played.delta)
  ):
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_forms_are_one_update(folder, tmp_path):
  sent, received = (
    archives.read(folder / f'{name}.npz') for name in ('sent', 'received')
  )
  archives.write(
    tmp_path / 'delta.npz', {k: received[k] - v for k, v in sent.items()}
  )
  whole = _setup(captures.config(folder)).source
  assert whole.facts['form'] == 'weights'  # found out
  source = {'received': str(tmp_path / 'delta.npz'), 'form': 'delta'}
  change = _setup(captures.config(folder, source=source)).source
  for a, b in zip(*(jax.tree.leaves(s.update.delta) for s in (whole, change))):
    np.testing.assert_allclose(a, b, atol=1e-7)
  del source['form']
  _refused(captures.config(folder, source=source), 'source.form', 'delta')


def test_gradients_are_for_clients_that_send_them(folder, tmp_path):
  sent = archives.read(folder / 'sent.npz')
  archives.write(tmp_path / 'g.npz', {k: 100 * v for k, v in sent.items()})
  source = {'received': str(tmp_path / 'g.npz'), 'form': 'gradient'}
  _refused(captures.config(folder, source=source), 'fedsgd')
  client = {'name': 'fedsgd'}
  setup = _setup(captures.config(folder, client=client, source=source))
  assert setup.source.facts['form'] == 'gradient'
  _refused(captures.config(folder, client=client), 'fedavg')


def test_orbax_checkpoint_is_read(folder, tmp_path):
  _, received = captures.write(tmp_path)
  target = tmp_path / 'orbax'
  with ocp.StandardCheckpointer() as opened:
    opened.save(target, {'params': received.params})
  source = {'received': str(target)}
  one, other = (
    _setup(captures.config(tmp_path, source=s)).source.update.delta
    for s in ({}, source)
  )
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_unknown_images_are_not_scored(folder, tmp_path):
  config = captures.config(folder, source={'truth': ''})
  (row,) = engine.audit(config, tmp_path / 'run', finish=report.write)
  assert row['verdict'] == 'unscored' and row['setting'] == 'captured'
  assert not columns.is_scored(row) and 'psnr' not in row
  assert row['score'] < row['score_start']
  assert np.isfinite([row['score_noise'], row['agreement']]).all()
  page = (tmp_path / 'run' / 'report.html').read_text()
  assert 'Nobody knows the images' in page and 'original' not in page
  again = engine.audit(config, tmp_path / 'run', finish=report.write)
  assert again == [row]


def test_known_images_are_scored_as_others(folder, tmp_path):
  (row,) = engine.audit(captures.config(folder), tmp_path, finish=report.write)
  assert columns.is_scored(row) and row['setting'] == 'captured'
  assert {'flat_image', 'noise_gradient', 'start'} <= row['baselines'].keys()
  assert row['accuracy'] is None  # nothing to measure it on
  assert 'untrained weights' not in row['setting_reasons']
  page = (tmp_path / 'report.html').read_text()
  assert 'reproduces the update' in page and 'not a simulation' in page


@pytest.mark.parametrize(
  ('source', 'changes', 'words'),
  [
    ({'received': '/nowhere.npz'}, {}, ['/nowhere.npz']),
    ({'form': 'nonsense'}, {}, ['delta, gradient, weights']),
    ({'truth': '/nowhere.npz'}, {}, ['/nowhere.npz']),
    ({'truth': ''}, {'labels': 'granted'}, ['labels', 'rule']),
    ({}, {'cases__count': 2}, ['cases.count=1']),
    ({}, {'weights__path': ''}, ['weights.path']),
    ({}, {'attack': {'name': 'robbing_the_fed'}}, ['alter']),
  ],
)
def test_refusals(folder, source, changes, words):
  config = captures.config(folder, source=source)
  for key, value in changes.items():
    node = config
    *path, last = key.split('__')
    for part in path:
      node = node[part]
    node[last] = value
  if changes.get('labels') == 'granted':
    config.threat.grants = ('labels',)
  if 'attack' in changes:
    config.threat.level, config.labels = 'F', 'granted'
  _refused(config, *words)


def test_number_of_images_is_that_of_the_truth(folder):
  _refused(captures.config(folder, images=2), 'cases.batch_size=1')


@pytest.mark.parametrize(
  ('arrays', 'words'),
  [
    ({'x': np.zeros((1, 12, 12, 3))}, ['x and labels y']),
    ({'x': np.zeros((1, 3, 12, 12)), 'y': [0]}, ['transpose']),
    ({'x': np.full((1, 12, 12, 3), 2.0), 'y': [0]}, ['[0, 1]']),
    ({'x': np.zeros((1, 12, 12, 3)), 'y': [99]}, ['label']),
    ({'x': np.zeros((1, 12, 12, 3)), 'y': [0.5]}, ['integers']),
    ({'x': np.zeros((1, 12, 12, 3)), 'y': [0, 1]}, ['of 1 images']),
  ],
)
def test_odd_truths(folder, tmp_path, arrays, words):
  np.savez(tmp_path / 't.npz', **{k: np.asarray(v) for k, v in arrays.items()})
  source = {'truth': str(tmp_path / 't.npz')}
  _refused(captures.config(folder, source=source), *words)


def test_bytes_are_images(folder, tmp_path):
  with np.load(folder / 'truth.npz') as truth:
    x, y = truth['x'], truth['y']
  np.savez(tmp_path / 't.npz', x=np.uint8(255 * x), y=y)
  source = {'truth': str(tmp_path / 't.npz')}
  setup = _setup(captures.config(folder, source=source))
  got = setup.source.item(setup, 0).batch.x
  assert np.abs(got - x).max() <= 1 / 255


def test_damaged_updates_are_refused(folder, tmp_path):
  good = archives.read(folder / 'received.npz')
  name = next(iter(good))
  for change, words in (
    ({name: np.full_like(good[name], np.nan)}, ['not finite']),
    ({name: good[name][:-1]}, ['misshapen', name]),
    ({'surplus': good[name]}, ['surplus']),
  ):
    archives.write(tmp_path / 'r.npz', {**good, **change})
    source = {'received': str(tmp_path / 'r.npz')}
    _refused(captures.config(folder, source=source), *words)
  data = (folder / 'received.npz').read_bytes()
  (tmp_path / 'torn.npz').write_bytes(data[: len(data) // 2])
  source = {'received': str(tmp_path / 'torn.npz')}
  _refused(captures.config(folder, source=source), 'torn.npz')


def test_a_changed_file_is_another_run(folder, tmp_path):
  for name in ('sent.npz', 'received.npz', 'truth.npz'):
    (tmp_path / name).write_bytes((folder / name).read_bytes())
  config = captures.config(tmp_path)
  engine.audit(config, tmp_path / 'run')
  arrays = archives.read(tmp_path / 'received.npz')
  archives.write(
    tmp_path / 'received.npz', {k: v * 1.001 for k, v in arrays.items()}
  )
  with pytest.raises(ValueError, match='another file than what it was'):
    engine.audit(config, tmp_path / 'run')


def test_several_images_and_a_plan(tmp_path):
  captures.write(tmp_path, images=2)
  whole = build.experiment(captures.config(tmp_path, images=2))
  assert len(plan.cohorts(whole)) == 1
  assert 'reproduces the update' in whole.checks[0]


def test_frozen_parameters_that_moved_are_said(tmp_path):
  captures.write(tmp_path)
  config = captures.config(tmp_path, trainable={'include': ['*1*']})
  names = convert.to_state_dict(_setup(config).variables)
  facts = _setup(config).source.facts
  assert len(names) == 4 and 'frozen' in facts['notes'][0]


def test_a_changed_checkpoint_is_another_run(tmp_path):
  _, received = captures.write(tmp_path)
  target = tmp_path / 'orbax'
  with ocp.StandardCheckpointer() as opened:
    opened.save(target, {'params': received.params})
  config = captures.config(tmp_path, source={'received': str(target)})
  inputs = build.experiment(config).inputs
  assert any(str(target) in name for name in inputs)


def test_nobody_knows_the_matching_of_a_received_update(folder):
  assert 'matching' in _setup(captures.config(folder)).source.hidden


def test_closed_forms_start_nowhere(folder, tmp_path):
  config = captures.config(folder, source={'truth': ''})
  config.attack, config.labels = {'name': 'linear_layer'}, 'granted'
  (row,) = engine.audit(config, tmp_path)
  assert row['score_start'] is None and row['agreement'] is None
  assert 'The attack fitted the update: its objective is' in row['reason']
  assert 'restarts' not in row['reason']


def test_images_of_the_data_set_are_no_guesses(folder, tmp_path):
  """Nobody knows which of them are among the images of the update."""
  config = captures.config(folder, attack={'name': 'linear_layer'})
  config.dataset = {'name': 'photographs', 'size': 12}
  config.labels = 'granted'
  (row,) = engine.audit(config, tmp_path)
  assert row['verdict'] == 'leaks'
  assert not {'mean_image', 'other_image'} & row['baselines'].keys()


def test_parameters_that_stand_still_are_said(folder, tmp_path):
  sent, received = (
    archives.read(folder / f'{name}.npz') for name in ('sent', 'received')
  )
  name = next(iter(sent))
  archives.write(tmp_path / 'r.npz', {**received, name: sent[name]})
  source = {'received': str(tmp_path / 'r.npz')}
  notes = _setup(captures.config(folder, source=source)).source.facts['notes']
  assert any(name.split('.')[0] in n and '--freeze' in n for n in notes)
