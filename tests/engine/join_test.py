"""Tests of giajax.engine.join: from updates to rows."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from giajax.engine import build
from giajax.engine import join
from giajax.engine import plan
from giajax.engine import run
from giajax.models import convert
from giajax.results import collection


def _dead(path):
  """Writes weights whose hidden units are never active."""
  setup = build.setup(build.resolve(tiny.config()))
  params = dict(setup.variables.params)
  layers = dict(params['layers'])
  layers['0'] = {
    **jax.tree.map(jnp.zeros_like, layers['0']),
    'bias': jnp.full_like(layers['0']['bias'], -1.0),
  }
  params['layers'] = layers
  variables = setup.variables._replace(params=params)
  np.savez(path, **convert.to_state_dict(variables))
  return str(path)


def test_an_update_of_a_dead_network_tests_nothing(tmp_path):
  config = tiny.config(
    weights__path=_dead(tmp_path / 'w.npz'),
    cases__batch_size=2,
    cases__count=1,
    attack__num_steps=2,
    noise_controls=0,
  )
  (row,) = run.audit(config, tmp_path / 'run')
  assert row['degenerate'].startswith('the update is zero for all weights')
  assert row['verdict'] == 'untested'
  assert row['reason'].startswith('Nothing was tested, because')


def test_an_isolated_image_is_no_degenerate_update(tmp_path):
  # In an MLP, all weights of one image's gradient have rank one.
  config = tiny.config(
    attack=dict(name='fishing', num_steps=1, feature_rounds=0),
    threat=dict(level='F', grants=()),
    cases__batch_size=4,
    cases__count=1,
    restarts=1,
    noise_controls=0,
  )
  (row,) = run.audit(config, tmp_path)
  assert row['degenerate'] == '' and row['verdict'] != 'untested'


def test_a_case_is_compared_with_its_own_control(tmp_path):
  """With the first case's, if it has none."""
  config = tiny.config(
    cases__count=3, attack__num_steps=2, restarts=1, noise_controls=2
  )
  rows = run.audit(config, tmp_path)
  arrays = tiny.arrays(tmp_path)
  made = [arrays.get(f'{i:04d}/x_noise_gradient') for i in range(3)]
  truth = [arrays[f'{i:04d}/x'] for i in range(3)]
  assert made[2] is None
  assert np.abs(made[0] - made[1]).max() > 1e-3
  for row, x, control in zip(rows, truth, (made[0], made[1], made[0])):
    mse = np.mean(np.square(x - control))
    assert row['baselines']['noise_gradient']['mse'] == pytest.approx(mse, 1e-4)


_CONFIG = dict(cases__count=1, restarts=1, gradient_similarity=True)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """Returns the folder of a finished run, and its rows."""
  folder = tmp_path_factory.mktemp('finished')
  return folder, run.audit(tiny.config(**_CONFIG), folder)


def test_rows_are_returned_as_they_are_read_back(finished):
  folder, rows = finished
  read = collection.read(folder)
  with read.arrays:
    assert rows == read.rows
    assert rows[0]['degenerate'] == ''
    for name in ('gradient_similarity', 'exact', 'cw_ssim'):
      assert collection.array(read, rows[0], name).shape == (1,)


def _rows(**changes):
  """Returns a change of the rows of a part."""

  def change(arrays):
    (row,) = json.loads(arrays['rows'].tobytes())
    rows = [{k: v for k, v in (row | changes).items() if v is not None}]
    return _text(json.dumps(rows))

  return change


def _text(text):
  return {'rows': np.frombuffer(text.encode(), np.uint8)}


# What is changed in a part, and what the error says.
_FOREIGN = (
  (lambda a: _text('{'), 'a whole part'),
  (lambda a: _text('[1]'), 'a whole part'),
  (lambda a: _text('[' * 9999), 'nested too deeply'),
  (lambda a: {'rows': np.arange(3)}, 'a whole part'),
  (lambda a: _text('[]'), 'to hold rows 0 to 0; got 0 rows'),
  (_rows(psnr='high'), "float or null under 'psnr'"),
  (_rows(psnr=None), 'got none of psnr'),
  (_rows(row=7), "got no array '0007/x'"),
  (lambda a: {'0000/row': np.array([7])}, "got no array '0000/x'"),
  (lambda a: {'0000/row': np.zeros(1)}, 'no numbers of rows'),
  (lambda a: {'0000/row': np.array([0, 0])}, 'a row is negative or comes'),
  (lambda a: {'0001/row': np.array([0])}, 'row 0 in two blocks'),
  (lambda a: {'0001/x': np.zeros(3)}, "no array '0001/row'"),
  (_rows(sweep={'seed': float('inf')}), "finite numbers under 'sweep.seed'"),
  (_rows(baselines={}), 'for every baseline'),
  (_rows(baselines={'start': {'psnr': [1.0]}}), 'for every baseline'),
  (_rows(baselines={'start': 1}), "dict under 'baselines.start'"),
  (lambda a: {'0000/x': np.zeros(3)}, r"'0000/x' of \[3\] for 1 rows"),
  (lambda a: {'0000/x': np.zeros((1, 3))}, "'x' of row 0"),
  (
    lambda a: {'0000/y': a['0000/y'][:, :0]},
    r"'y' of row 0 .* \[1\] of numbers",
  ),
  (lambda a: {'0000/psnr': np.array([['x']])}, "'psnr' of row 0"),
  (
    lambda a: {'control/x': np.zeros((1, 3))},
    'control of case 0 at point 0 to hold images',
  ),
  (lambda a: {'control/at': np.zeros(2)}, 'a point, a case and a score'),
)


def test_parts_of_another_kind_are_one_line(finished, tmp_path):
  folder, _ = finished
  cohorts = plan.cohorts(build.experiment(tiny.config(**_CONFIG)))
  (tmp_path / 'parts').mkdir()
  (part,) = (folder / 'parts').iterdir()
  with np.load(part) as file:
    arrays = dict(file)
  owner, _, _ = str(arrays['owner']).partition(' ')
  for change, words in _FOREIGN:
    np.savez(tmp_path / 'parts' / part.name, **arrays | change(arrays))
    with pytest.raises(ValueError, match=f'^Expected .*{words}') as info:
      join.join(tmp_path, cohorts, owner)
    assert str(info.value).isprintable()
