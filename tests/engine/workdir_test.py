"""Tests of who may write a workdir, and of what is never half written."""

import json
import os
import resource

import numpy as np
import pytest

from giajax.engine import together
from giajax.engine import workdir


def _meta(**config):
  digest = repr(sorted(config.items()))
  return {'config': config, 'hash': digest, 'precision': 'float32'}


def test_second_holder_is_refused(tmp_path):
  folder = tmp_path / 'deep' / 'run'
  with workdir.locked(folder):
    for shard in ((0, 1), (0, 2)):
      with (
        pytest.raises(ValueError, match=r'^Expected a folder that no process'),
        workdir.locked(folder, shard),
      ):
        pass
  with workdir.locked(folder):
    pass


def test_shards_work_beside_each_other_but_not_twice(tmp_path):
  with workdir.locked(tmp_path, (0, 2)), workdir.locked(tmp_path, (1, 2)):
    for shard in ((0, 1), (1, 2)):
      with (
        pytest.raises(ValueError, match=r'held by a running giajax'),
        workdir.locked(tmp_path, shard),
      ):
        pass


def test_another_config_is_refused_by_the_key(tmp_path):
  old = _meta(seed=0, attack={'name': 'dlg', 'num_steps': 3}, run={'a': 1})
  assert workdir.claim(tmp_path, old)
  assert not workdir.claim(tmp_path, old)
  new = _meta(seed=0, attack={'name': 'dlg', 'num_steps': 4}, run={'a': 2})
  with pytest.raises(
    ValueError, match=r'attack.num_steps=3; got attack.num_steps=4; choose'
  ):
    workdir.claim(tmp_path, new)
  longer = _meta(seed=0, attack=old['config']['attack'], run={}, lpips='x')
  with pytest.raises(ValueError, match=r"lpips=None; got lpips='x'"):
    workdir.claim(tmp_path, longer)
  assert json.loads((tmp_path / 'config.json').read_text()) == old


def test_another_precision_is_refused(tmp_path):
  assert workdir.claim(tmp_path, _meta(seed=0))
  with pytest.raises(ValueError, match=r'float32; got float64; set JAX_ENAB'):
    workdir.claim(tmp_path, _meta(seed=0) | {'precision': 'float64'})


@pytest.mark.parametrize(
  'text',
  [
    *('', '{', '[]', '[' * 9999, '{"config": 1}'),
    '{"config": 1, "hash": "a"}',
    '{"config": {}, "hash": "a", "inputs": [1]}',
    '{"config": {}, "hash": "a", "hash": "b"}',
  ],
)
def test_foreign_config_json(tmp_path, text):
  (tmp_path / 'config.json').write_text(text)
  with pytest.raises(ValueError, match=r'to be written by giajax'):
    workdir.check(tmp_path, _meta())


def test_pipes_are_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / 'config.json')
  os.mkfifo(tmp_path / 'part.npz')
  with pytest.raises(ValueError, match='not a regular file'):
    workdir.check(tmp_path, _meta())
  with pytest.raises(ValueError, match='not a regular file'):
    _read(tmp_path / 'part.npz', 'run part')


def test_a_file_in_the_way(tmp_path):
  (tmp_path / 'file').write_text('mine')
  for folder in (tmp_path / 'file', tmp_path / 'file' / 'run'):
    with (
      pytest.raises(
        ValueError, match=r'^Expected a folder that can be written'
      ),
      workdir.locked(folder),
    ):
      pass
  assert (tmp_path / 'file').read_text() == 'mine'


def test_same_arrays_same_bytes(tmp_path):
  arrays = {'b': np.arange(3.0), 'a/x': np.zeros((2, 2), bool)}
  for name in ('1.npz', '2.npz'):
    workdir.write_arrays(tmp_path / name, arrays.items())
  assert (tmp_path / '1.npz').read_bytes() == (tmp_path / '2.npz').read_bytes()


def test_full_disk_keeps_the_old_file(tmp_path):
  path = tmp_path / 'recon.npz'
  workdir.write_arrays(path, [('x', np.zeros(3))])
  old = path.read_bytes()
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
  try:
    with pytest.raises(ValueError, match=r'File too large; free some space'):
      workdir.write_arrays(path, [('x', np.zeros(9999))])
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert path.read_bytes() == old
  assert [p.name for p in tmp_path.iterdir()] == ['recon.npz']


def test_arrays_are_as_numpy_writes_them(tmp_path):
  arrays = {'b': np.arange(3.0), 'a/x': np.zeros((2, 2), bool)}
  workdir.write_arrays(tmp_path / 'a.npz', arrays.items())
  with np.load(tmp_path / 'a.npz') as found:
    assert found.files == [*arrays]
    for name, array in arrays.items():
      np.testing.assert_array_equal(found[name], array, strict=True)


def _read(path, owner):
  with workdir.part(path, owner) as (rows, arrays):
    return rows, dict(arrays)


def test_parts_come_back(tmp_path):
  path = tmp_path / 'part.npz'
  rows = [{'row': 0, 'psnr': float('nan')}]
  workdir.write_part(path, 'run part', rows, {'0000/x': np.ones(2)})
  found, arrays = _read(path, 'run part')
  assert found[0]['row'] == 0
  assert [*arrays] == ['owner', 'rows', '0000/x']
  with pytest.raises(ValueError, match=r'^Expected a part of this run; got'):
    _read(path, 'another part')


def _process(**changes):
  config = {'seed': 0, 'run': {'lowering': 'auto'}}
  meta = {'config': config, 'inputs': {}, 'precision': 'float32'}
  place = {'workdir': '/a', 'shard': '0/2'}
  return {**meta, 'versions': {'jax': '1'}, **place, **changes}


@pytest.mark.parametrize(
  'changes, words',
  [
    (
      {'config': {'seed': 1, 'run': {}}},
      'run.lowering=.* got run.lowering=None',
    ),
    (
      {'config': {'seed': 1, 'run': {'lowering': 'auto'}}},
      'seed=0 as in process 0; got seed=1 in process 1; start process 1',
    ),
    ({'inputs': {'a.npz': '7'}}, "a.npz=None as in process 0; got a.npz='7'"),
    ({'precision': 'float64'}, "precision='float32' as in process 0; got"),
    ({'versions': {'jax': '2'}}, "jax='1' as in process 0; got jax='2'"),
    ({'workdir': '/b'}, "workdir='/a' as in process 0; got workdir='/b' in"),
    ({'shard': '1/2'}, "shard='0/2' as in process 0; got shard='1/2' in"),
  ],
)
def test_processes_of_one_run_mean_the_same(changes, words):
  workdir.check_alike([_process(), _process()])
  with pytest.raises(ValueError, match=f'^Expected one run .*{words}'):
    workdir.check_alike([_process(), _process(**changes)])


@pytest.mark.parametrize('leads', [True, False])
def test_a_workdir_that_is_not_shared(tmp_path, monkeypatch, leads):
  """In process 0, which makes a file, or in process 1, which looks for it."""
  monkeypatch.setattr(together, 'agreed', lambda values: values)
  for other in ('True', 'False'):
    sights = []

    def texts(own, other=other, sights=sights):
      theirs = other if sights else '.theirs.partial'
      sights.append(own)
      return [own, theirs] if leads else [theirs, own]

    monkeypatch.setattr(together, 'texts', texts)
    if leads and other == 'True':
      workdir.check_shared(tmp_path)
    else:
      number = 1 if other == 'True' or leads else 0
      words = f'^Expected one workdir .* which process {number} does not share'
      with pytest.raises(workdir.UnusableError, match=words):
        workdir.check_shared(tmp_path)
    assert sights[1] == str(leads)
    assert not any(tmp_path.iterdir())


def test_withdraw_leaves_nothing_but_results(tmp_path):
  for kept in (None, 'parts/000-00000-00001.npz', 'checkpoints/a/1/data'):
    folder = tmp_path / 'run'
    with workdir.locked(folder):
      workdir.claim(folder, _meta())
      (folder / 'checkpoints' / 'a').mkdir(parents=True, exist_ok=True)
      if kept:
        (folder / kept).parent.mkdir(parents=True, exist_ok=True)
        (folder / kept).write_text('')
      workdir.withdraw(folder)
    assert folder.exists() == bool(kept)
    assert (folder / 'config.json').exists() == bool(kept)
    if kept:
      (folder / kept).unlink()


def test_withdraw_keeps_what_is_not_ours(tmp_path):
  (tmp_path / 'notes.txt').write_text('mine')
  with workdir.locked(tmp_path):
    workdir.claim(tmp_path, _meta())
    workdir.withdraw(tmp_path)
  assert [p.name for p in tmp_path.iterdir()] == ['notes.txt']


def test_a_name_that_is_no_utf8_is_refused_before_the_run(tmp_path):
  folder = tmp_path / os.fsdecode(b'caf\xe9')
  with pytest.raises(workdir.UnusableError, match=r'^Expected .*is UTF-8'):
    workdir.check(folder, _meta())
