"""Tests of giajax.capture: one file with what was sent and received."""

import io
import pathlib
import subprocess
import sys
from typing import NamedTuple

import captures
import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors

from giajax import archives
from giajax import capture
from giajax.battery import audit
from giajax.engine import build

_ROOT = pathlib.Path(__file__).resolve().parents[1]


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


class _Numpy:
  """An array of Flower's."""

  def __init__(self, value):
    self.value = value

  def numpy(self):
    return self.value


class _Metadata(NamedTuple):
  src_node_id: int = 0
  dst_node_id: int = 0


class _Message:
  """A message of Flower's, to a node or from it."""

  def __init__(self, node, *records, failed=False, **metrics):
    self.metadata = _Metadata(node, node)
    self.content = self
    self.array_records = {str(i): record for i, record in enumerate(records)}
    self.metric_records = {'metrics': {'loss': 0.5, **metrics}}
    self._failed = failed

  def has_error(self):
    return self._failed


class _Strategy:
  """A strategy of messages, which sends each node something else."""

  def configure_train(self, server_round, arrays, config, grid):
    assert config == {} and grid == [5, 6]
    for i, node in enumerate(grid):
      yield _Message(node, {n: _Numpy(v + i) for n, v in arrays.items()})

  def aggregate_train(self, server_round, replies):
    return server_round, len(replies)


def test_strategies_of_messages_are_watched(folder, tmp_path):
  sent, received, _ = _arrays(folder)
  strategy = capture.watch(_Strategy(), tmp_path / 'c', client='fedavg')
  messages = strategy.configure_train(1, sent, {}, grid=[5, 6])
  for message in messages:  # written to before replies come
    for array in message.array_records['0'].values():
      array.value[...] = 7
  record = {n: _Numpy(v) for n, v in received.items()}
  replies = (
    _Message(node, record, failed=node == 5, **{'num-examples': 3})
    for node in (5, 6)
  )
  assert strategy.aggregate_train(1, replies) == (1, 2)
  (path,) = (tmp_path / 'c').iterdir()
  assert path.name == 'round1-client1.safetensors'
  loaded = capture.load(path)
  assert loaded.about == {
    'form': 'weights',
    'client': 'fedavg',
    'examples': 3,
    'round': 1,
    'node': '6',
  }
  for name, value in loaded.received.items():
    np.testing.assert_array_equal(value, received[name])
    np.testing.assert_array_equal(loaded.sent[name], sent[name] + 1)


def test_messages_that_are_refused(folder, tmp_path):
  sent, _, _ = _arrays(folder)
  strategy = capture.watch(_Strategy(), tmp_path)
  strategy.configure_train(1, sent, {}, grid=[5, 6])
  record = {n: _Numpy(v) for n, v in sent.items()}
  with pytest.raises(ValueError, match=r"were asked in round 1; .*node='4'"):
    strategy.aggregate_train(1, [_Message(4, record)])
  with pytest.raises(ValueError, match=r'one ArrayRecord .* got 2'):
    strategy.aggregate_train(1, [_Message(5, record, record)])
  assert strategy.aggregate_train(1, [_Message(5, record)]) == (1, 1)
  about = capture.load(tmp_path / 'round1-client0.safetensors').about
  assert about['examples'] is None


class _Parameters(NamedTuple):
  """Parameters of Flower's, and what a client is told or answers."""

  tensors: list
  tensor_type: str = 'numpy.ndarray'
  num_examples: int = 2

  @property
  def parameters(self):
    return self


class _Node(NamedTuple):
  cid: str


def _parameters(arrays, **kwargs):
  contents = []
  for array in arrays.values():
    file = io.BytesIO()
    np.save(file, array)
    contents.append(file.getvalue())
  return _Parameters(contents, **kwargs)


class _Lists:
  """A strategy of parameters."""

  def configure_fit(self, server_round, parameters, client_manager):
    return client_manager and [(node, parameters) for node in client_manager]

  def aggregate_fit(self, server_round, results, failures):
    return server_round, len(results), failures


def test_strategies_of_parameters_are_watched(folder, tmp_path):
  sent, received, _ = _arrays(folder)
  strategy = capture.watch(_Lists(), tmp_path, names=[*sent])
  node, told = _Node('a'), _parameters(sent)
  # As Flower's server calls it.
  asks = strategy.configure_fit(
    server_round=2, parameters=told, client_manager=[node]
  )
  assert asks == [(node, told)]
  results = [(node, _parameters(received))]
  assert strategy.aggregate_fit(2, results, []) == (2, 1, [])
  loaded = capture.load(tmp_path / 'round2-client0.safetensors')
  assert loaded.about == {
    'form': 'weights',
    'examples': 2,
    'round': 2,
    'node': 'a',
  }
  for name, value in loaded.received.items():
    np.testing.assert_array_equal(value, received[name])
    np.testing.assert_array_equal(loaded.sent[name], sent[name])
  keywords = dict(server_round=3, client_manager=None)
  assert strategy.configure_fit(parameters=told, **keywords) == []


def test_parameters_that_are_refused(folder, tmp_path):
  sent, _, _ = _arrays(folder)
  strategy = capture.watch(_Lists(), tmp_path, names=['one'])
  with pytest.raises(ValueError, match=r'Expected 4 names .* got 1'):
    strategy.configure_fit(1, _parameters(sent), [_Node('a')])
  other = _parameters(sent, tensor_type='bytes')
  with pytest.raises(ValueError, match=r"of the type .* got 'bytes'"):
    strategy.configure_fit(1, other, [_Node('a')])


def test_names_are_given_to_records_of_lists(folder, tmp_path):
  sent, _, _ = _arrays(folder)
  strategy = capture.watch(_Strategy(), tmp_path, names=[*sent])
  values = {str(i): value for i, value in enumerate(sent.values())}
  strategy.configure_train(1, values, {}, [5, 6])
  record = {name: _Numpy(value) for name, value in values.items()}
  strategy.aggregate_train(1, replies=[_Message(5, record)])
  loaded = capture.load(tmp_path / 'round1-client0.safetensors')
  assert loaded.sent.keys() == loaded.received.keys() == sent.keys()


def test_servers_need_no_jax():
  heavy = {'jax', 'flax', 'scipy', 'matplotlib', 'flwr', 'torch'}
  code = f'import giajax.capture, sys; assert not {heavy} & {{*sys.modules}}'
  subprocess.run([sys.executable, '-c', code], cwd=_ROOT, check=True)


def test_what_a_capture_cannot_hold(tmp_path):
  path, one = tmp_path / 'deep' / 'c.safetensors', [np.zeros(2)]
  saved = capture.save(path, iter(one), iter(one), examples=np.int64(3))
  loaded = capture.load(saved)
  assert [*loaded.sent] == ['arr_0'] and loaded.about['examples'] == 3
  for changes, words in (
    ({'form': 'wieghts'}, 'weights, delta, gradient'),
    ({'client': {1}}, 'what JSON can say'),
  ):
    with pytest.raises(ValueError, match=words):
      capture.save(path, one, one, **changes)
  (tmp_path / 'file').touch()
  with pytest.raises(ValueError, match='can be written'):
    capture.save(tmp_path / 'file' / 'c.safetensors', one, one)
