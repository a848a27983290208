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
      checkpoint.save(opened, _tree(value))
      checkpoint.wait(opened)


def _restored(folder):
  with checkpoint.manager(folder) as opened:
    return checkpoint.restore(opened)


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


@pytest.mark.parametrize('damage', ['truncated', 'missing'])
def test_damaged_one_is_passed_over(tmp_path, damage, caplog):
  _saved(tmp_path, 3, 5)
  for path in (tmp_path / '2').rglob('*'):
    if path.is_file() and path.name != 'commit_success.txt':
      if damage == 'missing':
        path.unlink()
      else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with caplog.at_level('WARNING', 'giajax'):
    assert int(_restored(tmp_path)['step']) == 3
  assert 'passing over the damaged checkpoint 2' in caplog.text


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
  folders = [tmp_path / 'checkpoints' / name for name in 'ab']
  for folder in folders:
    folder.mkdir(parents=True)
  checkpoint.remove(folders[0])
  assert folders[1].exists()
  checkpoint.remove(folders[1])
  assert not any(tmp_path.iterdir())


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
