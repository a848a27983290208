"""Tests of giajax.engine.join: from updates to rows."""

import jax
import jax.numpy as jnp
import numpy as np
import tiny

from giajax.engine import build
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
    noise_control=False,
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
    noise_control=False,
  )
  (row,) = run.audit(config, tmp_path)
  assert row['degenerate'] == '' and row['verdict'] != 'untested'


def test_rows_are_returned_as_they_are_read_back(tmp_path):
  config = tiny.config(cases__count=1, restarts=1, gradient_similarity=True)
  rows = run.audit(config, tmp_path)
  read = collection.read(tmp_path)
  with read.arrays:
    assert rows == read.rows
    assert rows[0]['degenerate'] == ''
    for name in ('gradient_similarity', 'exact', 'cw_ssim'):
      assert collection.array(read, rows[0], name).shape == (1,)
