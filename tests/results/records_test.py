"""Tests of what a workdir holds, and of the line where it holds more."""

import json

import numpy as np
import pytest

from giajax.results import collection
from giajax.results import columns
from giajax.results import kinds
from giajax.results import stacks
from giajax.results import study

_EMPTY = {int: 0, float: None, str: '', bool: False, list: [], dict: {}}
_FACTS = {
  **dict(psnr=24.0, ssim=0.9, recognised=8, images=8, updates=8),
  **dict(recovered=True, seconds_per_image=0.1, parameters=9),
  'audited_seconds_per_image': 0.1,
}
_TRIED = {
  **dict(_FACTS, name='a', stage='network', title='A'),
  **dict(overrides={}, gain=0.5, chance=None),
}


def _text(whole, changes):
  """Returns JSON with some keys changed; changes that are text as they are."""
  return changes if isinstance(changes, str) else json.dumps(whole | changes)


def _workdir(folder, **changes):
  """Writes a run of one image with these changes."""
  own = {name: _EMPTY[c.kind] for name, c in columns.COLUMNS.items()}
  types = {'y': int, 'y_hat': int, 'finite': bool, 'trace_step': int}
  sizes = {'B': 1, 'H': 4, 'W': 4, 'C': 3, 'R': 2, 'L': 3}
  content = {
    name: np.zeros(
      [sizes[a] for a in array.axes.removesuffix('*')], types.get(name, 'f')
    )
    for name, array in columns.ARRAYS.items()
  }
  content |= {'chosen': np.array(1), **changes.get('arrays', {})}
  whole = {'config': {}, 'hash': 'a'}
  (folder / 'config.json').write_text(_text(whole, changes.get('meta', {})))
  (folder / 'results.jsonl').write_text(_text(own, changes.get('row', {})))
  if 'advice' in changes:
    (folder / 'advice.json').write_text(json.dumps(changes['advice']))
  own = {name: np.asarray(value) for name, value in content.items()}
  np.savez(folder / 'recon.npz', **stacks.block(0, {0: own}))


def _read(folder):
  run = collection.read(folder)
  with run.arrays:
    study.check_run(run)
  return run, collection.advice(folder)


def _advice(**changes):
  whole = {'point': 0, 'audited': _FACTS, 'changes': [_TRIED]}
  return {'advice': whole | changes}


_STUDY = {'study': {'claim': 'c'}, 'sweep': {'seed': [0, 1]}}
# What is changed in a workdir, and what the error says.
_FOREIGN = (
  (dict(meta='[]'), 'to hold dict; got'),
  (dict(meta='[' * 9999), 'nested too deeply'),
  (dict(meta='{"config": {}, "config": 1}'), "the key 'config' twice"),
  (dict(meta={'config': 1}), "dict under 'config'; got 1"),
  (dict(meta={'config': {'study': 1}}), "dict under 'config.study'"),
  (dict(meta={'config': {'study': {'x': 1}}}), 'known key of study'),
  (dict(meta={'config': _STUDY}), 'to be of a point of the sweep'),
  (dict(meta={'config': _STUDY}, row={'sweep': {'seed': 1}}), None),
  (dict(meta={'config': _STUDY}, row={'sweep': {'seed': 2}}), 'of a point'),
  (dict(meta={'threat': {'grants': []}}), "dict under 'threat.grants'"),
  (dict(meta={'versions': {'jax': 1}}), "str under 'versions.jax'"),
  (dict(meta={'class_names': [1]}), r"str under 'class_names\[0\]'"),
  (dict(meta={'card': None, 'threat': None}), None),
  (dict(row='[' * 9999), 'a torn last line'),
  (dict(row='{"row": 0, "row": 1}'), "the key 'row' twice"),
  (dict(row={'case': 10**30}), 'a number of 31 digits'),
  (dict(row={'grants': [1]}), r"str under 'grants\[0\]'"),
  (dict(row={'baselines': {'start': 1}}), "dict under 'baselines.start'"),
  (
    dict(row={'baselines': {'start': {'psnr': '1'}}}),
    "float or null under 'baselines.start.psnr'",
  ),
  (dict(row={'sweep': {'a': float('inf')}}), "finite numbers under 'sweep.a'"),
  (dict(arrays={'x': np.zeros((1, 4, 4, 3), 'i')}), "'x' of row 0 .* floats"),
  (dict(arrays={'x_hat': np.zeros((1, 5, 4, 3), 'f')}), r'\[1, 4, 4, 3\] of'),
  (dict(arrays={'y': np.array(['a'])}), "'y' of row 0 .* numbers"),
  (dict(arrays={'y': np.zeros((2, 5))}), "'y' of row 0"),
  (dict(arrays={'y.a': np.zeros((2, 5))}), "'y.a' of row 0"),
  (dict(arrays={'psnr': np.zeros(2, 'f')}), "'psnr' of row 0"),
  (dict(arrays={'mse': np.zeros(2, 'f')}), "'mse' of row 0"),
  (dict(arrays={'finite': np.zeros(2, 'f')}), "'finite' of row 0"),
  (dict(arrays={'chosen': np.array(2)}), 'one of 2 restarts; got 2'),
  (dict(arrays={'chosen': np.array('x')}), "'chosen' of row 0"),
  (dict(arrays={'baselines': np.zeros((1, 1, 1))}), r'\[0, M, 1\] of floats'),
  (_advice(), None),
  (_advice(changes=[{**_TRIED, 'reason': 'none'}]), None),
  (_advice(changes=[{k: _TRIED[k] for k in ('name', 'stage', 'title')}]), None),
  (dict(advice=[]), 'to hold dict'),
  (_advice(point='0'), "int under 'point'"),
  (_advice(audited={}), "float under 'audited.psnr'; got None"),
  (_advice(changes={}), "list under 'changes'"),
  (_advice(changes=[{**_TRIED, 'images': 0}]), r"'changes\[0\]'"),
  (_advice(validation={'honest': 1}), "dict or dict under 'validation'"),
)


def test_what_a_workdir_holds(tmp_path):
  for changes, words in _FOREIGN:
    (tmp_path / 'advice.json').unlink(missing_ok=True)
    _workdir(tmp_path, **changes)
    if words is None:
      _read(tmp_path)
      continue
    with pytest.raises(ValueError, match=f'^Expected .*{words}') as info:
      _read(tmp_path)
    assert str(info.value).isprintable()


def test_a_header_of_a_trillion_numbers_is_not_believed(tmp_path):
  _workdir(tmp_path)
  path = tmp_path / 'recon.npz'
  shape, other = b"'shape': (1, 1, 4, 4, 3), }", b"'shape': (1, 9999999999), }"
  data = path.read_bytes()
  at = data.index(shape)
  data = data[:at] + other.ljust(len(shape)) + data[at + len(shape) :]
  path.write_bytes(data)
  assert other in path.read_bytes()
  with pytest.raises(ValueError, match='of another length than its shape'):
    _read(tmp_path)


def test_kinds():
  for value, kind, words in (
    (True, int, 'int; got True'),
    (1, float, None),
    (1, bool, 'bool'),
    (0, range(1, 9), 'int of at least 1; got 0'),
    (None, kinds.NUMBER, None),
    ('x', kinds.NUMBER, 'float or null'),
    ([1, 'x'], [int], r"int under '\[1\]'"),
    ({'a': {'b': 1}}, {str: {str: str}}, "str under 'a.b'"),
    ({'b': 1}, {'a': int}, "int under 'a'; got None"),
    ({'a': None, 'c': 1}, {'a?': int}, None),
    ([{'a': float('nan')}], object, 'finite numbers'),
  ):
    if words is None:
      kinds.check(value, kind, 'it', 'go')
      continue
    with pytest.raises(ValueError, match=f'^Expected it to hold {words}.*; go'):
      kinds.check(value, kind, 'it', 'go')
