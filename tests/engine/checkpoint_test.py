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


def test_of_tensorstore_only_the_reason_is_said(tmp_path, monkeypatch):
  def full(*args, **kwargs):
    spec = '{"driver": "zarr", "path": "a/b: c"}'
    raise ValueError(
      f"RESOURCE_EXHAUSTED: Error: No space [os_error_code='28'] [{spec}]"
    )

  with checkpoint.manager(tmp_path) as opened:
    monkeypatch.setattr(opened, 'save', full)
    with pytest.raises(ValueError, match=r': No space left on device; free'):
      checkpoint.save(opened, _tree(3))


def test_a_checkpoint_in_a_folder_that_is_no_utf8(tmp_path):
  with ocp.StandardCheckpointer() as opened:
    opened.save(tmp_path / 'a', {'params': np.ones(3, np.float32)})
  folder = tmp_path / os.fsdecode(b'caf\xe9')
  (tmp_path / 'a').rename(folder)
  with pytest.raises(ValueError, match=r'^Expected an Orbax checkpoint'):
    checkpoint.read(folder)
