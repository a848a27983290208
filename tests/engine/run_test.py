"""Tests of the runner, in this process: one whole audit, and what may vary."""

import json
import os
import shutil
import signal
import time

from flax import nnx
import jax
import numpy as np
from PIL import Image
import pytest
import tiny

from giajax import models
from giajax import trees
from giajax.engine import build
from giajax.engine import exchange
from giajax.engine import loop
from giajax.engine import program as programs
from giajax.engine import run
from giajax.engine.sources import simulated
from giajax.models import base
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models.parts import norms
from giajax.report import report

_COLUMNS = (
  *('attack', 'model', 'dataset', 'batch_size', 'restarts', 'steps', 'grants'),
  *('setting', 'score', 'psnr', 'ssim', 'labels_matched', 'psnr_oracle'),
  *(
    'baselines',
    'finite_restarts',
    'seconds_per_update',
    'config_hash',
    'versions',
  ),
)


def _assert_close(workdir, expected):
  found = tiny.arrays(workdir)
  assert [*found] == [*expected]
  for name, value in expected.items():
    np.testing.assert_allclose(
      found[name], value, atol=1e-4, rtol=1e-4, err_msg=name
    )


@pytest.fixture
def compilations(monkeypatch):
  """Returns a list that grows by every compiled program."""
  made = []
  compiled = programs.compiled
  monkeypatch.setattr(
    programs, 'compiled', lambda *a: made.append(1) or compiled(*a)
  )
  return made


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """Returns the workdir of a whole audit and its rows."""
  workdir = tmp_path_factory.mktemp('whole') / 'run'
  rows = run.audit(
    tiny.config(),
    workdir,
    card='A card.',
    command='giajax x',
    finish=report.write,
  )
  return workdir, rows


def test_end_to_end(whole):
  workdir, rows = whole
  lines = (workdir / 'results.jsonl').read_text().splitlines()
  read = [json.loads(line) for line in lines]
  assert [(r['point'], r['case']) for r in read] == [(0, 0), (0, 1)]
  assert all(column in row for row in read for column in _COLUMNS)
  meta = json.loads((workdir / 'config.json').read_text())
  assert {row['config_hash'] for row in read} == {meta['hash']}
  for row in read:
    assert row['psnr'] > row['baselines']['start']['psnr'] + 1
    assert row['finite_restarts'] == row['restarts'] == 2
    assert row['setting'] == 'diagnostic'
    assert {*row['baselines']} == {
      *('start', 'mean_image', 'other_image', 'noise_gradient'),
    }
  arrays = tiny.arrays(workdir)
  assert arrays['0000/x_hat'].shape == (1, 12, 12, 3)
  np.testing.assert_array_equal(arrays['0001/trace_step'], [4, 8, 12])
  assert np.all(np.diff(arrays['0000/trace']) < 0)
  page = (workdir / 'report.html').read_text()
  assert 'A card.' in page
  assert 'giajax x' in page
  assert not (workdir / 'checkpoints').exists()
  assert [row['psnr'] for row in rows] == [row['psnr'] for row in read]


def test_running_again_changes_nothing(whole):
  workdir, rows = whole
  digest = tiny.digest(workdir)
  assert run.audit(tiny.config(), workdir) == rows
  assert tiny.digest(workdir) == digest


def test_the_end_takes_only_what_was_saved(whole):
  workdir, _ = whole
  saved = workdir / 'checkpoints'
  names = ('000-00000-00002', '000-00000-00003.aside', 'notes')
  for name in names:
    (saved / name / '0').mkdir(parents=True)
  run.audit(tiny.config(), workdir)
  assert sorted(path.name for path in saved.iterdir()) == [*names[1:]]
  shutil.rmtree(saved)


def test_processes_that_share_no_workdir_are_refused(tmp_path, monkeypatch):
  def texts(own):  # process 1 finds no file of process 0's
    return [own, own if own.startswith('{') else 'False']

  monkeypatch.setattr(run.together, 'texts', texts)
  monkeypatch.setattr(run, '_run', lambda *args: pytest.fail('it ran'))
  with pytest.raises(ValueError, match=r'^Expected one workdir that all'):
    run.audit(tiny.config(), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  'flags',
  [
    {'run__restarts_per_batch': 1},
    {'run__cases_per_batch': 1},
    {'run__cases_per_batch': 2, 'run__save_seconds': 0.0},
  ],
)
def test_run_flags_change_no_result(whole, tmp_path, flags):
  workdir, rows = whole
  found = run.audit(tiny.config(**flags), tmp_path)
  _assert_close(tmp_path, tiny.arrays(workdir))
  for row, expected in zip(found, rows):
    assert row['verdict'] == expected['verdict']
    assert row['config_hash'] == expected['config_hash']
    for name, baseline in expected['baselines'].items():
      assert row['baselines'][name] == pytest.approx(baseline, abs=1e-2)


def test_one_compilation_a_cohort(tmp_path, compilations):
  config = tiny.config(run__cases_per_batch=2, cases__count=1)
  config.sweep = {
    'attack.total_variation': (0.0, 1e-3, 1e-2),
    'cases.batch_size': (1, 2),
  }
  rows = run.audit(config, tmp_path)
  # Two cohorts of six items, in three parts each.
  assert len(compilations) == 2
  assert len(list((tmp_path / 'parts').iterdir())) == 6
  assert [row['row'] for row in rows] == [*range(6)]
  assert [row['cohort'] for row in rows] == [0, 1, 0, 1, 0, 1]
  assert len({row['score'] for row in rows}) == 6
  assert len({row['config_hash'] for row in rows}) == 6
  one = tiny.config(cases__count=1, attack__total_variation=1e-2)
  (alone,) = run.audit(one, tmp_path / 'alone')
  assert alone['config_hash'] == rows[4]['config_hash']
  assert alone['score'] == pytest.approx(rows[4]['score'], rel=1e-3)


def test_what_only_changes_the_truth_shares_a_program(tmp_path, compilations):
  config = tiny.config(cases__count=1)
  config.defense = {'name': 'gaussian_noise', 'scale': 0.0}
  config.sweep = {'defense.scale': (0.0, 0.1), 'seed': (0, 1)}
  rows = run.audit(config, tmp_path)
  assert len(rows) == 4
  assert len(compilations) == 1


def test_shards_join_to_the_same_results(whole, tmp_path):
  workdir, _ = whole
  assert run.audit(tiny.config(), tmp_path, shard=(1, 2)) == []
  assert not (tmp_path / 'results.jsonl').exists()
  rows = run.audit(tiny.config(), tmp_path, shard=(0, 2))
  assert len(rows) == 2
  _assert_close(tmp_path, tiny.arrays(workdir))


def test_another_split_continues_what_is_there(whole, tmp_path):
  workdir, _ = whole
  run.audit(tiny.config(), tmp_path, shard=(1, 3))
  run.audit(tiny.config(run__cases_per_batch=2), tmp_path)
  names = sorted(path.name for path in (tmp_path / 'parts').iterdir())
  assert names == [f'000-0000{i}-0000{i + 1}.npz' for i in range(3)]
  _assert_close(tmp_path, tiny.arrays(workdir))


def test_signal_at_any_piece_saves_and_continues(whole, tmp_path):
  workdir, _ = whole
  config = tiny.config(run__save_seconds=1e6)
  steps, goals = [], [1, 5, 12, 99]  # the last step is no exception

  def interrupt(status):
    steps.append(status.step)
    if status.step >= goals[0]:
      os.kill(os.getpid(), signal.SIGTERM)

  while len(goals) > 1:
    with pytest.raises(run.Interrupted) as stopped:
      run.audit(config, tmp_path, hooks=[interrupt])
    assert f'saved at step {steps[-1]} of 12' in str(stopped.value)
    assert not (tmp_path / 'recon.npz').exists()
    del goals[0]
  run.audit(config, tmp_path, hooks=[interrupt])
  assert steps == sorted(set(steps))  # nothing was done twice
  assert tiny.digest(tmp_path) == tiny.digest(workdir)
  assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_follows_the_last_step_may_be_ended(whole, tmp_path):
  workdir, _ = whole
  config = tiny.config(run__save_seconds=1e6)

  def ended(*args):
    raise SystemExit

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loop, '_PIECE_SECONDS', 0.0)
    patch.setattr(run.join, 'score', ended)
    with pytest.raises(SystemExit):
      run.audit(config, tmp_path)
  run.audit(config, tmp_path, hooks=[lambda status: pytest.fail('a step')])
  assert tiny.digest(tmp_path) == tiny.digest(workdir)


class _Normed(nnx.Module):
  def __init__(self, rngs):
    self.norm = norms.BatchNorm(3, rngs=rngs)
    self.fc = layers.Linear(12 * 12 * 3, 16, rngs=rngs)

  def __call__(self, x):
    return self.fc(layers.flatten(self.norm(x)))


def _normed(image_shape, num_classes, *, lowering):
  spec = base.make_spec('normed', image_shape, num_classes, 'none')
  return from_nnx.from_nnx(_Normed, spec, lowering)


def test_restarts_that_work_together_continue_to_the_same_bits(
  tmp_path, monkeypatch
):
  monkeypatch.setitem(models.MODELS, 'normed', _normed)
  attack = dict(name='grad_inversion', num_steps=4)
  model = dict(name='normed')
  config = tiny.config(attack=attack, model=model, cases__count=1)
  config.noise_controls = 0

  def interrupt(status):
    if status.step == 1:
      os.kill(os.getpid(), signal.SIGTERM)

  with pytest.raises(run.Interrupted, match='saved at step 1 of 4'):
    run.audit(config, tmp_path / 'stopped', hooks=[interrupt])
  run.audit(config, tmp_path / 'stopped')
  run.audit(config, tmp_path / 'whole')
  assert tiny.digest(tmp_path / 'stopped') == tiny.digest(tmp_path / 'whole')


def test_signal_before_the_first_step(tmp_path):
  class Stopped(run.signals.Stop):
    asked = True

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Stopped, '__init__', lambda self: setattr(self, '_old', {}))
    patch.setattr(run.signals, 'Stop', Stopped)
    with pytest.raises(run.Interrupted):
      run.audit(tiny.config(), tmp_path)


def test_hook_that_cannot_write_is_one_line(tmp_path):
  def full(status):
    raise OSError(28, 'No space left on device', 'preview.png')

  with pytest.raises(ValueError, match=r'preview.png: No space left on device'):
    run.audit(tiny.config(), tmp_path / 'run', hooks=[full])
  assert not (tmp_path / 'run').exists()


def test_gradient_share_is_that_of_the_clients_batch(tmp_path):
  changes = dict(
    attack={'name': 'spear', 'num_steps': 1, 'samples': 4, 'descents': 0},
    cases__count=1,
    cases__batch_size=3,
    gradient_share=True,
    restarts=1,
  )
  config = tiny.config(**changes)
  (row,) = run.audit(config, tmp_path)
  resolved = build.resolve(config)
  setup = build.setup(resolved)
  batch = simulated.item(setup, 0).batch

  def norm(x, y):
    def loss(hidden):
      params = {**setup.variables.params}
      params['layers'] = {**params['layers'], '0': hidden}
      variables = setup.variables._replace(params=params)
      logits = setup.net.apply(variables, x[None]).out
      return -jax.nn.log_softmax(logits)[0, y]

    own = jax.grad(loss)(setup.variables.params['layers']['0'])
    return np.sqrt(trees.squared_norm(own))

  norms = np.array([norm(*pair) for pair in zip(*batch)])
  assert row['gradient_share'] == pytest.approx(
    norms.max() / norms.sum(), rel=1e-4
  )


def test_a_closed_form_that_takes_steps_is_no_baseline_of_its_own(tmp_path):
  config = tiny.config(
    attack={'name': 'spear', 'num_steps': 1}, cases__count=1, restarts=1
  )
  (row,) = run.audit(config, tmp_path)
  assert row['verdict'] == 'leaks' and 'start' not in row['baselines']
  np.testing.assert_array_equal(tiny.arrays(tmp_path)['0000/x_start'], 0.5)


def test_closed_form_has_no_steps_and_a_grey_baseline(tmp_path):
  (row,) = run.audit(
    tiny.config(
      attack={'name': 'linear_layer'},
      cases__count=1,
      restarts=1,
    ),
    tmp_path,
  )
  assert row['psnr'] > 40
  assert row['verdict'] == 'leaks'
  assert {*row['baselines']} == {
    *('grey_image', 'mean_image', 'other_image', 'noise_gradient'),
  }
  arrays = tiny.arrays(tmp_path)
  assert arrays['0000/trace'].shape == (1, 0)
  np.testing.assert_array_equal(arrays['0000/x_start'], 0.5)


def test_seconds_of_a_closed_form_are_those_of_reading_it(
  tmp_path, monkeypatch
):
  compiled, calls = programs.compiled, []

  def slow(*args):
    made = compiled(*args)

    def read(*inputs):
      calls.append(time.sleep(0.5))
      return made.read(*inputs)

    return made._replace(read=read, seconds=1e3)

  monkeypatch.setattr(programs, 'compiled', slow)
  rows = run.audit(
    tiny.config(attack={'name': 'linear_layer'}, noise_controls=0), tmp_path
  )
  assert len(calls) == 1  # the two updates are one part
  assert 0.5 <= sum(row['seconds_per_update'] for row in rows) < 100
  assert {row['compile_seconds'] for row in rows} == {1e3}


def test_restarts_that_leave_the_numbers_are_counted(tmp_path):
  config = tiny.config(
    attack={'name': 'inverting_gradients', 'num_steps': 3, 'distance': 'l2'},
    defense={'name': 'gaussian_noise', 'scale': 1e30},
  )
  rows = run.audit(config, tmp_path, finish=report.write)
  assert [row['finite_restarts'] for row in rows] == [0, 0]
  for name, value in tiny.arrays(tmp_path).items():
    if name.endswith('x_hat'):
      assert np.all(np.isfinite(value))
  assert (tmp_path / 'report.html').exists()


def test_inferred_labels(tmp_path):
  rows = run.audit(
    tiny.config(
      labels='idlg', threat__grants=(), attack__num_steps=2, restarts=1
    ),
    tmp_path,
  )
  assert [row['labels_recovered'] for row in rows] == [1, 1]
  assert not any(row['labels_granted'] for row in rows)
  assert 'labels' not in rows[0]['grants']


def test_given_images(tmp_path):
  cases = {'count': 1, 'batch_size': 2, 'rule': 'given', 'given': (9, 3)}
  run.audit(tiny.config(cases=cases, attack__num_steps=2), tmp_path)
  np.testing.assert_array_equal(tiny.arrays(tmp_path)['0000/y'], (9, 3))


def test_mistakes_leave_no_workdir(tmp_path):
  for changes in (
    {'attack': {'name': 'dgl'}},
    {'attack__tv': 1.0},
    {'cases__batch_size': 99},
    {'threat__level': 'A'},
    {'defense': {'name': 'gaussian_noise', 'scale': 1e39}},
  ):
    with pytest.raises(ValueError, match=r'^Expected'):
      run.audit(tiny.config(**changes), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('shard', [(2, 2), (-1, 2), (0, 0)])
def test_shard_out_of_range(tmp_path, shard):
  with pytest.raises(ValueError, match=r'^Expected shard i/n'):
    run.audit(tiny.config(), tmp_path, shard=shard)


def test_another_config_is_refused_before_it_is_built(whole):
  workdir, _ = whole
  with pytest.raises(ValueError, match=r'restarts=2; got restarts=3'):
    run.audit(tiny.config(restarts=3, weights__path='x'), workdir)


def test_float64_is_a_reference_from_end_to_end(tmp_path):
  config = tiny.config(cases__count=1, restarts=1, noise_controls=0)
  with jax.enable_x64(True):
    (row,) = run.audit(config, tmp_path)
  assert row['finite_restarts'] == 1
  arrays = tiny.arrays(tmp_path)
  assert arrays['0000/x'].dtype == arrays['0000/x_hat'].dtype == np.float64
  assert arrays['0000/scores'].dtype == np.float64


def test_float64_takes_no_coarser_products():
  with jax.enable_x64(True), pytest.raises(ValueError, match='JAX_ENABLE_X64'):
    build.experiment(tiny.config(precision='bfloat16'))


def test_precision_is_the_attackers(tmp_path):
  coarse = {'precision': ('full', 'bfloat16')}
  rows = run.audit(tiny.config(sweep=coarse), tmp_path)
  assert [row['sweep'] for row in rows[::2]] == [
    {'precision': 'full'},
    {'precision': 'bfloat16'},
  ]
  full, rounded = (row['score'] for row in rows[::2])
  assert 0 < abs(full - rounded) < 0.1
  setups = [
    c.setup for c in build.experiment(tiny.config(sweep=coarse)).cohorts
  ]
  assert setups[0].world.net is setups[0].net
  updates = [
    exchange.observer(setup, exchange.player(setup))(
      [simulated.item(setup, 0)]
    ).update
    for setup in setups
  ]
  for exact, other in zip(*map(jax.tree.leaves, updates)):
    np.testing.assert_array_equal(exact, other)


def test_an_image_of_a_later_part_is_read_before_the_first(
  tmp_path, monkeypatch
):
  folder = tmp_path / 'images'
  folder.mkdir()
  rng = np.random.default_rng(0)
  for name in 'abc':
    pixels = rng.integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f'{name}.png')
  config = tiny.config(
    dataset={'name': 'folder', 'path': str(folder), 'size': 12},
    attack={'name': 'linear_layer'},
    noise_controls=0,
    restarts=1,
    run__cases_per_batch=1,
  )
  setup = build.setup(build.resolve(config))
  first, later = (setup.cases.indices(setup.dataset, c)[0] for c in (0, 1))
  assert first != later
  monkeypatch.setattr(run, '_run_part', lambda *args: pytest.fail('it ran'))
  (folder / f'{"abc"[later]}.png').write_bytes(b'no image')
  with pytest.raises(ValueError, match=f'{"abc"[later]}.png'):
    run.audit(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
