"""Tests of giajax.capture: one file with what was sent and received."""

import captures
import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors

from giajax import archives
from giajax import capture
from giajax.battery import audit
from giajax.engine import build


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Returns the folder of a capture of one image, in single files."""
  path = tmp_path_factory.mktemp('capture')
  captures.write(path)
  return path


def _arrays(folder):
  names = ('sent', 'received', 'truth')
  return [archives.read(folder / f'{name}.npz') for name in names]


def _save(folder, path, **about):
  sent, received, truth = _arrays(folder)
  return capture.save(
    path, sent, received, truth=(truth['x'], truth['y']), **about
  )


def test_what_is_saved_is_loaded(folder, tmp_path):
  path = _save(folder, tmp_path / 'c.safetensors', client='fedavg', round=3)
  loaded = capture.load(path)
  for got, wanted in zip(loaded[:3], _arrays(folder)):
    assert got.keys() == wanted.keys()
    for name, value in got.items():
      np.testing.assert_array_equal(value, wanted[name])
  assert loaded.about == {'form': 'weights', 'client': 'fedavg', 'round': 3}


def test_one_file_is_as_good_as_three(folder, tmp_path):
  path = str(_save(folder, tmp_path / 'c.safetensors'))
  config = captures.config(folder, source={'received': path, 'truth': path})
  config.weights.path = path
  own, apart = (
    build.setup(build.resolve(c)) for c in (config, captures.config(folder))
  )
  for a, b in zip(
    *(jax.tree.leaves(s.source.update.delta) for s in (own, apart))
  ):
    np.testing.assert_array_equal(a, b)
  truths = [s.source.item(s, 0).batch.x for s in (own, apart)]
  np.testing.assert_array_equal(*truths)


def test_audit_takes_what_the_capture_says(folder, tmp_path):
  path = _save(
    folder,
    tmp_path / 'c.safetensors',
    client=captures.CLIENT,
    input_shape=captures.SHAPE,
    num_classes=captures.CLASSES,
  )
  config = audit.config_of(model=captures.MODEL, capture=str(path))
  assert config['client'] == captures.CLIENT
  assert config['cases']['batch_size'] == 1
  assert config['source']['form'] == 'weights'
  found = build.experiment({**config, 'labels': 'idlg'})
  assert 'reproduces the update' in found.checks[0]
  other = {'name': 'fedavg', 'learning_rate': 0.2, 'train_mode': True}
  config = audit.config_of(
    model=captures.MODEL, capture=str(path), client=other
  )
  assert config['client'] == other  # what is said is stronger
  bare = _save(folder, tmp_path / 'bare.safetensors')
  with pytest.raises(ValueError, match='Expected client'):
    audit.config_of(model=captures.MODEL, capture=str(bare))


def test_lists_and_refusals(folder, tmp_path):
  sent, received, _ = _arrays(folder)
  lists = [*sent.values()], [*received.values()]
  path = capture.save(tmp_path / 'l.safetensors', *lists)
  assert [*capture.load(path).sent] == [f'arr_{i}' for i in range(len(sent))]
  with pytest.raises(ValueError, match=r'ends in \.safetensors'):
    capture.save(tmp_path / 'l.npz', *lists)
  with pytest.raises(ValueError, match='none in received'):
    capture.save(tmp_path / 'l.safetensors', lists[0], [])
  safetensors.save_file({'sent/x': np.zeros(1)}, tmp_path / 'o.safetensors')
  with pytest.raises(ValueError, match='a capture of version 1'):
    capture.load(tmp_path / 'o.safetensors')
  safetensors.save_file(
    {'sent/x': np.zeros(1)},
    tmp_path / 'o.safetensors',
    {'giajax_capture': '1', 'about': '{'},
  )
  with pytest.raises(ValueError, match='Expected JSON'):
    capture.load(tmp_path / 'o.safetensors')


class _Reply:
  """A client's answer, as both kinds of Flower's strategies get it."""

  def __init__(self, arrays, failed=False):
    self._failed = failed
    self.content = self
    record = {n: _Numpy(v) for n, v in arrays.items()}
    self.array_records = {'arrays': record}
    self.metric_records = {'metrics': {'num-examples': 1}}

  def has_error(self):
    return self._failed


class _Numpy:
  """An array of Flower's."""

  def __init__(self, value):
    self._value = value

  def numpy(self):
    return self._value


class _Strategy:
  """A strategy of messages."""

  def configure_train(self, server_round, arrays, config, grid):
    return [server_round, config, grid]

  def aggregate_train(self, server_round, replies):
    return len(replies)


def test_strategies_are_watched(folder, tmp_path):
  sent, received, _ = _arrays(folder)
  strategy = capture.watch(_Strategy(), tmp_path / 'c', client='fedavg')
  record = {n: _Numpy(v) for n, v in sent.items()}
  assert strategy.configure_train(1, record, {}, grid=None) == [1, {}, None]
  replies = (_Reply(received, failed) for failed in (False, True, False))
  assert strategy.aggregate_train(1, replies) == 3
  files = sorted(path.name for path in (tmp_path / 'c').iterdir())
  assert files == [f'round1-client{i}.safetensors' for i in (0, 2)]
  loaded = capture.load(tmp_path / 'c' / files[0])
  assert loaded.about['examples'] == 1 and loaded.about['client'] == 'fedavg'
  for name, value in loaded.received.items():
    np.testing.assert_array_equal(value, received[name])
