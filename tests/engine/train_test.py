"""Tests of giajax.engine.train and of the command that uses it."""

import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from giajax import main
from giajax.data import base as data
from giajax.engine import build
from giajax.engine import setting
from giajax.engine import train
from giajax.models.classification import mlp

# Two classes that one pixel tells apart, behind much noise.
_RNG = np.random.default_rng(0)
_Y = _RNG.integers(0, 2, 240)
_X = _RNG.uniform(size=(240, 3, 3, 1)).astype(np.float32)
_X[:, 1, 1, 0] = np.where(_Y == 1, 0.9, 0.1)
EASY = data.dataset(
  name='easy',
  image_shape=(3, 3, 1),
  class_names=('dark', 'light'),
  labels=_Y,
  note='',
  read=lambda i: _X[i],
)
RECIPE = train.Recipe(epochs=3, batch_size=20, learning_rate=0.5)


def system(**defense):
  config = build.resolve(tiny.config(defense=defense or dict(name='none')))
  made = build.system(config, RECIPE.batch_size)
  net = mlp.mlp((3, 3, 1), 2, widths=(8,))
  client = build.CLIENTS['fedsgd'](net, made.task)
  return made._replace(dataset=EASY, net=net, client=client)


def trained(made, recipe=RECIPE, **more):
  start = made.net.init(jax.random.key(0))
  return start, train.train(made, recipe, start, **more)


def test_a_network_learns_and_the_seed_decides():
  made, seen = system(), []
  start, end = trained(made, on_epoch=lambda e, v: seen.append(e))
  assert train.accuracy(made.net, start, EASY) < 0.8
  assert train.accuracy(made.net, end, EASY) == 1.0
  assert seen == [1, 2, 3]
  _, again = trained(made)
  _, other = trained(made, RECIPE._replace(seed=1))
  same, not_same = (
    jax.tree.map(lambda a, b: bool((a == b).all()), end.params, v.params)
    for v in (again, other)
  )
  assert all(jax.tree.leaves(same)) and not any(jax.tree.leaves(not_same))


def test_first_step_by_hand():
  """One step is plain SGD with weight decay on the batch's mean gradient."""
  made = system()
  recipe = train.Recipe(1, 240, 0.5, momentum=0.9, weight_decay=0.1)
  start, end = trained(made, recipe)

  def loss(params):
    out = made.net.apply(start._replace(params=params), jnp.asarray(_X)).out
    return made.task.loss(out, jnp.asarray(_Y)).mean()

  wanted = jax.tree.map(
    lambda p, g: p - 0.5 * (g + 0.1 * p),
    start.params,
    jax.grad(loss)(start.params),
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), end.params, wanted
  )


def test_a_defence_costs_accuracy():
  noisy = system(name='gaussian_noise', scale=3.0)
  _, end = trained(noisy)
  assert train.accuracy(noisy.net, end, EASY) < 0.95


def test_accuracy_counts_each_image_once():
  made = system()
  variables = made.net.init(jax.random.key(0))
  out = made.net.apply(variables, jnp.asarray(_X)).out
  right = float(np.mean(np.argmax(out, -1) == _Y))
  np.testing.assert_allclose(
    train.accuracy(made.net, variables, EASY), right, atol=1e-6
  )


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    (dict(epochs=0), 'got epochs=0'),
    (dict(seed=2**63), 'got seed=9223'),
    (dict(batch_size=241), 'a batch_size of 1 to 240'),
    (dict(learning_rate=0.0), 'got learning_rate=0.0'),
    (dict(momentum=1.0), 'got momentum=1.0'),
    (dict(weight_decay=-1.0), 'got weight_decay=-1.0'),
    (dict(learning_rate=1e30), 'NaN or inf in epoch 1'),
  ],
)
def test_mistakes(change, words):
  with pytest.raises(ValueError, match=f'^Expected .*{words}'):
    trained(system(), RECIPE._replace(**change))


def test_weights_are_an_artefact_with_a_hash(tmp_path, capsys):
  config = tiny.write(tmp_path / 'config.py')
  out = tmp_path / 'w.npz'
  arguments = '--batch_size=8', '--epochs=2', '--every=1', '--learning_rate=0.1'
  command = ['giajax', 'train', f'--config={config}', f'--out={out}']
  assert main.main([*command, *arguments]) == 0
  assert 'mlp after 2 epochs' in capsys.readouterr().out
  facts = json.loads(out.with_suffix('.json').read_text())
  digest = hashlib.sha256(out.read_bytes()).hexdigest()
  assert facts['sha256'] == digest and facts['epochs'] == 2
  assert facts['config']['client']['train_mode'] is True
  assert (tmp_path / 'w-epoch1.npz').exists()
  # It can be audited, and trained further.
  setup = build.setup(build.resolve(tiny.config(weights__path=str(out))))
  made = train.accuracy(setup.net, setup.variables, setup.dataset)
  assert made == facts['accuracy']
  found = setting.describe(setup, 0)
  assert found['accuracy'] == made


def test_a_point_of_a_sweep_is_trained(tmp_path):
  config = tiny.config(sweep={'model.widths': ((4,), (8,))})
  recipe = train.Recipe(batch_size=8)
  train.train_config(config, tmp_path / 'w.npz', recipe, point=1)
  facts = json.loads((tmp_path / 'w.json').read_text())
  assert facts['config']['model']['widths'] == [8]


def test_long_training_says_how_long(tmp_path, monkeypatch, caplog):
  monkeypatch.setattr(train, '_QUIET', 0.0)
  recipe = train.Recipe(epochs=3, batch_size=8)
  with caplog.at_level('INFO', 'giajax'):
    train.train_config(tiny.config(), tmp_path / 'w.npz', recipe)
  lines = [x for x in caplog.messages if x.endswith(' left')]
  assert [x.partition(',')[0] for x in lines] == [
    'epoch 1 of 3',
    'epoch 2 of 3',
  ]


@pytest.mark.parametrize(
  ('changes', 'out', 'words'),
  [
    ({'sweep': {'seed': (1, 2)}}, 'w.npz', 'a point from 0 to 1 of the sweep'),
    ({}, 'w.txt', 'ends in .npz'),
    ({}, 'no/w.npz', 'a folder that can be written'),
    ({'defense': dict(name='x')}, 'w.npz', 'known defense'),
  ],
)
def test_mistakes_write_nothing(tmp_path, changes, out, words):
  with pytest.raises(ValueError, match=f'^Expected .*({words})'):
    train.train_config(tiny.config(**changes), tmp_path / out, RECIPE)
  assert not list(tmp_path.iterdir())
