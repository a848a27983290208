"""Tests of checkpoints: whole or not at all."""

import errno
import os
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest

from giajax.engine import checkpoint


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
  with checkpoint.manager(folder) as opened:
    return checkpoint.restore(opened, owner)


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
