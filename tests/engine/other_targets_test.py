"""Small audits of tasks beside classification, and of other inputs."""

import json

import numpy as np
import pytest

from giajax.engine import build
from giajax.engine import exchange
from giajax.engine import run as engine
from giajax.models import convert
from giajax.report import report
from giajax.results import collection

_NETS = """
from flax import nnx
import jax
import jax.numpy as jnp


class Pixels(nnx.Module):
  def __init__(self, num_classes, *, rngs):
    self.first = nnx.Conv(3, 4, (3, 3), rngs=rngs)
    self.last = nnx.Conv(4, num_classes, (1, 1), rngs=rngs)

  def __call__(self, x):
    return self.last(jax.nn.sigmoid(self.first(x)))


class Heads(nnx.Module):
  def __init__(self, *, rngs):
    self.angle = nnx.Linear(75, 1, rngs=rngs)
    self.kind = nnx.Linear(75, 3, rngs=rngs)

  def __call__(self, x):
    x = x.reshape(len(x), -1)
    return {'angle': self.angle(x)[:, 0], 'kind': self.kind(x)}


def both(out, y):
  log_p = jax.nn.log_softmax(out['kind'])
  kind = -jnp.take_along_axis(log_p, y['kind'][:, None], axis=1)[:, 0]
  return (out['angle'] - y['angle']) ** 2 + kind


def dull(out, y):
  return jnp.mean(out['angle'])
"""
_SIZE = 6


def _config(folder, task, x, y, **dataset):
  """Returns a config of two updates of one image each, labels known."""
  np.savez(folder / 'own.npz', x=x, **y)
  (folder / 'nets.py').write_text(_NETS)
  config = build.default_config()
  config.dataset = {'name': 'arrays', 'path': str(folder / 'own.npz')}
  config.dataset.update(dataset)
  config.task = {'name': task}
  config.model = {'name': 'mlp', 'widths': (16,)}
  config.attack = {'name': 'inverting_gradients', 'num_steps': 15}
  config.cases.count = 2
  return config


def _audited(folder, config):
  """Returns the rows, the run and the page of an audit."""
  rows = engine.audit(config, folder / 'run')
  page = report.write(folder / 'run').read_text()
  run = collection.read(folder / 'run')
  assert json.loads((folder / 'run' / 'summary.json').read_text())
  return rows, run, page


def _images(*shape):
  return np.random.default_rng(0).random((_SIZE, *shape), np.float32)


def test_many_labels_are_optimised_with_the_images(tmp_path):
  y = (_images(4) < 0.5).astype(np.int64)
  config = _config(tmp_path, 'multilabel', _images(5, 5, 3), {'y': y})
  config.dataset.class_names = ('ape', 'bee', 'cat', 'doe')
  config.attack = {**config.attack, 'joint': True}
  config.threat.grants = ()
  rows, run, page = _audited(tmp_path, config)
  for row in rows:
    assert 0 <= row['labels_recovered'] <= 1 and not row['labels_granted']
    assert 0 <= row['accuracy'] <= 1
    claimed = collection.targets(run, row, 'y_hat')
    assert claimed.shape == (1, 4) and {*claimed.ravel().tolist()} <= {0, 1}
  true = collection.targets(run, rows[0], 'y')[0]
  named = ', '.join(np.array(config.dataset.class_names)[true == 1])
  assert named in page


def test_numbers_of_wide_images_of_five_channels(tmp_path):
  y = _images(2)
  config = _config(tmp_path, 'regression', _images(4, 7, 5), {'y': y})
  rows, run, page = _audited(tmp_path, config)
  assert collection.array(run, rows[0], 'x_hat').shape == (1, 4, 7, 5)
  assert [row['labels_matched'] for row in rows] == [1, 1]  # they were granted
  assert 'the first three of 5 channels' in page


def test_classes_of_pixels(tmp_path):
  y = (_images(6, 5) * 3).astype(np.int32)
  config = _config(
    tmp_path, 'segmentation', _images(6, 5, 3), {'y': y}, num_classes=3
  )
  config.model = {'name': f'{tmp_path}/nets.py:Pixels'}
  rows, run, page = _audited(tmp_path, config)
  assert collection.targets(run, rows[0], 'y_hat').shape == (1, 6, 5)
  assert [row['labels_recovered'] for row in rows] == [1, 1]
  true = collection.targets(run, rows[0], 'y')[0]
  count = np.bincount(true.ravel()).max()
  assert f'class {np.bincount(true.ravel()).argmax()} {count / 30:.0%}' in page


def test_a_loss_of_ones_own_and_targets_of_two_parts(tmp_path):
  y = {'y.angle': _images(), 'y.kind': (_images() * 3).astype(int)}
  config = _config(
    tmp_path, f'{tmp_path}/nets.py:both', _images(5, 5, 3), y, num_classes=3
  )
  config.model = {'name': f'{tmp_path}/nets.py:Heads'}
  rows, run, page = _audited(tmp_path, config)
  claimed = collection.targets(run, rows[0], 'y_hat')
  assert claimed.keys() == {'angle', 'kind'}
  assert rows[0]['accuracy'] is None
  assert 'angle ' in page and '; kind ' in page
  # The file of the loss is a part of the run.
  (tmp_path / 'nets.py').write_text(_NETS + '\n')
  with pytest.raises(ValueError, match=r'nets\.py'):
    engine.audit(config, tmp_path / 'run')


def test_rows_of_a_table_are_read_and_shown_as_numbers(tmp_path):
  x = _images(3) * [10, 1, 100]
  config = _config(
    tmp_path,
    'regression',
    x,
    {'y': _images(2)},
    low=0,
    high=(10, 1, 100),
    columns=('age', 'rate', 'income'),
  )
  config.attack = {'name': 'linear_layer'}
  rows, run, page = _audited(tmp_path, config)
  for row in rows:
    assert row['verdict'] == 'leaks' and 'The rows can be read' in row['reason']
    assert row['ssim'] is None and row['labels_recovered'] is None
  assert 'came back readably' in page and '<td>income</td>' in page
  own = collection.array(run, rows[0], 'x')[0, 0, 0] * [10, 1, 100]
  assert any(np.allclose(own, row, atol=1e-4) for row in x)
  report.write(tmp_path / 'run', redact=True)
  assert '<td>income</td>' not in (tmp_path / 'run/report.html').read_text()


ODD = {
  'targets of another task': (
    {'task': {'name': 'multilabel'}},
    {'y': np.arange(_SIZE) % 2},
    r'shape \(1, 2\); got shape=\(1,\)',
  ),
  'a label rule': ({'labels': 'bias_corrected'}, None, 'task classification'),
  'a defence of classes': ({'defense': {'name': 'mixup'}}, None, 'for mixup'),
  'counts': (
    {'threat.grants': ('labels', 'label_counts')},
    None,
    'labels that can be counted',
  ),
  'no task': ({'task': {'name': 'segmentatoin'}}, None, 'segmentation'),
  'a loss without optimisable targets': (
    {'task': {'name': 'nets.py:dull'}, 'attack': {'name': 'dlg'}},
    None,
    'a task whose labels can be optimised',
  ),
  'a loss that is one number': (
    {'task': {'name': 'nets.py:dull'}},
    None,
    'a loss of each image',
  ),
}


@pytest.mark.parametrize('case', sorted(ODD))
def test_what_does_not_go_together_is_refused(tmp_path, case, monkeypatch):
  monkeypatch.chdir(tmp_path)
  changes, y, words = ODD[case]
  config = _config(
    tmp_path, 'regression', _images(5, 5, 3), y or {'y': _images(2)}
  )
  if 'dull' in str(changes):
    config.model = {'name': 'nets.py:Heads'}
  for key, value in changes.items():
    node, _, leaf = key.rpartition('.')
    setattr(getattr(config, node) if node else config, leaf, value)
  with pytest.raises(ValueError, match=words):
    engine.audit(config, tmp_path / 'run')


def test_a_received_row_is_not_its_own_baseline(tmp_path, monkeypatch):
  """The mean colour of an image of one pixel is the image."""
  monkeypatch.chdir(tmp_path)
  config = _config(
    tmp_path, 'regression', _images(3) * 8, {'y': _images(2)}, high=8
  )
  setup = build.setup(build.resolve(config))
  (history,) = exchange.player(setup)(setup.source.item(setup, 0))
  for name, variables in (
    ('sent', setup.variables),
    ('received', setup.variables._replace(params=history.update.delta)),
  ):
    np.savez(f'{name}.npz', **convert.to_state_dict(variables))
  batch = setup.source.item(setup, 0).batch
  np.savez('truth.npz', x=batch.x[:, 0, 0] * 8, y=batch.y)
  config.dataset = {
    'name': 'unknown',
    'image_shape': (3,),
    'num_classes': 2,
    'high': 8,
  }
  config.cases.count = 1
  config.weights.path = 'sent.npz'
  config.source = {
    'name': 'captured',
    'received': 'received.npz',
    'form': 'gradient',
    'truth': 'truth.npz',
  }
  config.attack = {'name': 'spear', 'num_steps': 1}
  rows, _, _ = _audited(tmp_path, config)
  assert rows[0]['verdict'] == 'leaks'
  assert {*rows[0]['baselines']} == {'grey_image', 'noise_gradient'}
