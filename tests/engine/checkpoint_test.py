"""Tests of checkpoints: whole or not at all."""

import errno
import json
import os
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore

from giajax.engine import checkpoint
from giajax.engine import together


def _tree(value):
  return {
    'leaves': checkpoint.numbered([np.full((2, 3), value, np.float32)]),
    'step': np.asarray(value, np.int64),
  }


def _saved(folder, *values):
  with checkpoint.manager(folder) as opened:
    for value in values:
      checkpoint.save(opened, _tree(value), 'run')
      checkpoint.wait(opened)


def _restored(folder, owner='run'):
  return checkpoint.restore(folder, owner, _tree(0))


def test_last_one_comes_back(tmp_path):
  assert _restored(tmp_path / 'a') is None
  _saved(tmp_path / 'a', 3, 5, 7)
  found = _restored(tmp_path / 'a')
  assert int(found['step']) == 7
  np.testing.assert_array_equal(found['leaves']['0'], _tree(7)['leaves']['0'])
  _saved(tmp_path / 'a', 9)  # numbers go on
  assert int(_restored(tmp_path / 'a')['step']) == 9


def test_half_written_one_is_skipped(tmp_path):
  _saved(tmp_path, 3)
  shutil.copytree(tmp_path / '1', tmp_path / '2.orbax-checkpoint-tmp')
  (tmp_path / '2.orbax-checkpoint-tmp' / 'commit_success.txt').unlink(True)
  assert int(_restored(tmp_path)['step']) == 3
  _saved(tmp_path, 4)
  assert int(_restored(tmp_path)['step']) == 4


def _files(folder):
  return [
    path
    for path in sorted(folder.rglob('*'))
    if path.is_file() and path.name != 'commit_success.txt'
  ]


def _truncate(step):
  for path in _files(step):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(step):
  shutil.rmtree(step)
  step.mkdir()


def _without_item(step):
  shutil.rmtree(step / 'default')


def _another(step):
  (step.parent / '9').mkdir()
  _truncate(step)


DAMAGES = {
  'truncated': _truncate,
  'emptied': _empty,
  'without its item': _without_item,
  'beside an empty one': _another,
  'without files': lambda step: [path.unlink() for path in _files(step)],
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_damaged_one_is_set_aside_and_the_others_stay(tmp_path, damage, caplog):
  folder = tmp_path / 'part'
  _saved(folder, 3, 5)
  DAMAGES[damage](folder / '2')
  with caplog.at_level('WARNING', 'giajax'):
    tree = _restored(folder)
  assert int(tree['step']) == 3 and set(tree) == {'leaves', 'step'}
  assert 'setting aside the checkpoint 2: it is damaged (' in caplog.text
  assert (folder / '1').is_dir() and not (folder / '2').exists()
  aside = sorted(path.name for path in (tmp_path / 'part.aside').iterdir())
  assert aside == ['0', '1'][: 1 + (damage == 'beside an empty one')]
  _saved(folder, 7)
  assert int(_restored(folder)['step']) == 7


# JSON of another shape than each of Orbax's files has.
_JSONS = (
  *('', '{', '[]', 'null', '5', '"x"', '[[[[]]]]', '[' * 999),
  *('{"tree_metadata": null}', '{"tree_metadata": {"x": 1}}'),
  '{"tree_metadata": {"x": {"key_metadata": [], "value_metadata": 1}}}',
  '{"item_handlers": 5, "metrics": [], "custom_metadata": 5}',
  '{"init_timestamp_nsecs": "x", "commit_timestamp_nsecs": 1e99}',
)
_FILES = ('_CHECKPOINT_METADATA', 'default/_METADATA')


def _pipe_in(step):
  (step / 'default' / 'manifest.ocdbt').unlink()
  os.mkfifo(step / 'default' / 'manifest.ocdbt')


def _link_in(step):
  (step / 'default' / 'd').rename(step.parent / 'd')
  (step / 'default' / 'd').symlink_to(step.parent / 'd')


def _link_to(step):
  step.rename(step.parent / 'step')
  step.symlink_to(step.parent / 'step')


def _file_for_item(step):
  _without_item(step)
  (step / 'default').write_text('')


def _claiming(**claims):
  """Returns a damage: the first array says another thing of itself."""

  def damage(step):
    base = f'file://{step}/default/'
    spec = {'driver': 'ocdbt', 'base': base}
    store = tensorstore.KvStore.open(spec).result()
    kind = json.loads(store.read('leaves.0/.zarray').result().value)
    text = json.dumps({**kind, **claims})
    store.write('leaves.0/.zarray', text.encode()).result()

  return damage


def _number(step):
  """An array that says that it is a number, whose size is not told."""
  path = step / 'default' / '_METADATA'
  path.write_text(path.read_text().replace('"np.ndarray"', '"scalar"'))
  _claiming(shape=[1 << 40, 3])(step)


STRUCTURES = {
  'a pipe in it': _pipe_in,
  'a link in it': _link_in,
  'a link to it': _link_to,
  'a file for its item': _file_for_item,
  'a huge array': _claiming(shape=[1 << 40, 3], chunks=[1 << 20, 3]),
  'huge pieces': _claiming(chunks=[1 << 20, 1 << 20]),
  'a huge number': _number,
  'another shape': _claiming(shape=[3, 2]),
  'another type': _claiming(dtype='<i4'),
}


@pytest.mark.parametrize('damage', STRUCTURES)
def test_what_is_no_checkpoint_is_set_aside(tmp_path, damage, caplog):
  folder = tmp_path / 'part'
  _saved(folder, 3, 5)
  STRUCTURES[damage](folder / '2')
  with caplog.at_level('WARNING', 'giajax'):
    assert int(_restored(folder)['step']) == 3
  assert 'the checkpoint 2: it is damaged (' in caplog.text
  assert os.path.lexists(tmp_path / 'part.aside' / '0')
  _saved(folder, 7)
  assert int(_restored(folder)['step']) == 7


def test_json_of_another_shape_is_no_traceback(tmp_path):
  _saved(tmp_path / 'whole', 3, 5)
  for i, text in enumerate(_JSONS):
    for file in _FILES:
      folder = tmp_path / f'{i}{file[0]}'
      shutil.copytree(tmp_path / 'whole', folder)
      (folder / '2' / file).write_text(text)
      # Nobody reads what Orbax notes of a step.
      step = 5 if file == '_CHECKPOINT_METADATA' else 3
      assert int(_restored(folder)['step']) == step, (file, text)
      with checkpoint.manager(folder) as opened:
        assert opened.latest_step() == step // 2


def test_processes_take_the_same_checkpoint(tmp_path, monkeypatch, caplog):
  """The newest of process 0, unless one of them cannot read it."""
  folder = tmp_path / 'part'
  _saved(folder, 3, 5)
  monkeypatch.setattr(together, 'texts', lambda own: ['["2", "1"]', '[]'])
  answers = iter([1.0, 0.0, 0.0])
  monkeypatch.setattr(together, 'agreed', lambda own: [next(answers)])
  with caplog.at_level('WARNING', 'giajax'):
    assert int(_restored(folder)['step']) == 3
  assert 'checkpoint 2: another process cannot read it' in caplog.text
  assert not any(answers)


def test_no_flipped_bit_is_taken_for_what_was_saved(tmp_path):
  """A bit of an array's data, wherever Orbax keeps it."""
  folder = tmp_path / 'part'
  _saved(folder, 3)
  whole = _restored(folder)
  rng = np.random.default_rng(0)
  for path in _files(folder / '1'):
    data = path.read_bytes()
    for _ in range(3 if data else 0):
      flipped = bytearray(data)
      flipped[rng.integers(len(data))] ^= 1 << rng.integers(8)
      path.write_bytes(flipped)
      tree = _restored(folder)
      if tree is None:  # set aside
        shutil.move(tmp_path / 'part.aside' / '0', folder / '1')
      else:
        for name in whole:
          np.testing.assert_equal(tree[name], whole[name])
      path.write_bytes(data)


def test_another_runs_checkpoint_is_set_aside(tmp_path, caplog):
  _saved(tmp_path / 'part', 3)
  with caplog.at_level('WARNING', 'giajax'):
    assert _restored(tmp_path / 'part', 'another run') is None
  assert 'the checkpoint 1: it belongs to another run' in caplog.text
  assert (tmp_path / 'part.aside' / '0').is_dir()


def test_full_disk_is_one_line_and_keeps_the_last(tmp_path, monkeypatch):
  def full(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  _saved(tmp_path, 3)
  monkeypatch.setattr(os, 'posix_fallocate', full)
  with pytest.raises(ValueError, match=r'^Expected .*No space left on device;'):
    _saved(tmp_path, 4)
  monkeypatch.undo()
  assert int(_restored(tmp_path)['step']) == 3


def test_remove_takes_the_empty_parent(tmp_path):
  folder = tmp_path / 'checkpoints'
  for name in 'abc':
    (folder / name).mkdir(parents=True)
  checkpoint.remove(folder, 'a')
  assert sorted(path.name for path in folder.iterdir()) == ['b', 'c']
  checkpoint.remove(folder, 'bc')
  assert not any(tmp_path.iterdir())


def test_of_tensorstore_only_the_reason_is_said(tmp_path, monkeypatch):
  def full(*args, **kwargs):
    spec = '{"driver": "zarr", "path": "a/b: c"}'
    raise ValueError(
      f"RESOURCE_EXHAUSTED: Error: No space [os_error_code='28'] [{spec}]"
    )

  with checkpoint.manager(tmp_path) as opened:
    monkeypatch.setattr(opened, 'save', full)
    with pytest.raises(ValueError, match=r': No space left on device; free'):
      checkpoint.save(opened, _tree(3), 'run')


def test_a_checkpoint_in_a_folder_that_is_no_utf8(tmp_path):
  with ocp.StandardCheckpointer() as opened:
    opened.save(tmp_path / 'a', {'params': np.ones(3, np.float32)})
  folder = tmp_path / os.fsdecode(b'caf\xe9')
  (tmp_path / 'a').rename(folder)
  with pytest.raises(ValueError, match=r'^Expected an Orbax checkpoint'):
    checkpoint.read(folder)


def _pipe(folder):
  (folder / 'manifest.ocdbt').unlink()
  os.mkfifo(folder / 'manifest.ocdbt')


def _link(folder):
  (folder / 'd' / 'x').symlink_to('/dev/zero')


def _twice(folder):
  path = folder / '_METADATA'
  path.write_text(path.read_text().replace('{', '{"use_ocdbt": false, ', 1))


def test_a_checkpoint_with_two_readings_is_refused(tmp_path):
  with ocp.StandardCheckpointer() as opened:
    opened.save(tmp_path / 'whole', {'params': {'w': np.ones(3, np.float32)}})
    opened.save(tmp_path / 'name', {'params': {'w\n': np.ones(3, np.float32)}})
  assert list(checkpoint.read(tmp_path / 'whole')) == ['params.w']
  for change, words in (
    (_pipe, "'manifest.ocdbt', which is not a regular file"),
    (_link, "'x', which is not a regular file"),
    (_twice, "the key 'use_ocdbt' twice"),
  ):
    folder = shutil.copytree(tmp_path / 'whole', tmp_path / change.__name__)
    change(folder)
    with pytest.raises(ValueError, match=f'^Expected an Orbax .*{words}'):
      checkpoint.read(folder)
  with pytest.raises(ValueError, match='which does not print'):
    checkpoint.read(tmp_path / 'name')


def test_a_checkpoint_that_takes_more_room_than_it_says_is_refused(tmp_path):
  with ocp.StandardCheckpointer() as opened:
    tree = {'leaves': {'0': np.ones((2, 3), np.float32)}}
    opened.save(tmp_path / 'whole' / 'default', tree)
  (tmp_path / 'link').symlink_to(tmp_path / 'whole' / 'default')
  assert list(checkpoint.read(tmp_path / 'link')) == ['leaves.0']
  for name, words in (
    ('a huge array', 'bytes claimed by a file of'),
    ('huge pieces', r"'leaves.0' of \(2, 3\) in pieces of \(1048576, 1048576"),
    ('a huge number', "'leaves.0', which is no array"),
  ):
    step = shutil.copytree(tmp_path / 'whole', tmp_path / name)
    STRUCTURES[name](step)
    with pytest.raises(ValueError, match=f'^Expected an Orbax .*{words}'):
      checkpoint.read(step / 'default')
