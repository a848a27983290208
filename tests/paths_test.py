"""Tests of paths as users write them."""

import pathlib

import pytest

from giajax import paths


def test_homes_are_expanded_and_missing_files_are_paths(tmp_path):
  assert paths.expanded('~/a', 'out') == pathlib.Path.home() / 'a'
  (tmp_path / 'file').touch()
  for path in (tmp_path / 'new', tmp_path / 'file' / 'below'):
    assert paths.expanded(path, 'out') == path


@pytest.mark.parametrize('path', ['~nobody_at_all/a', 'a\0b', 300 * 'a'])
def test_what_names_no_file_is_refused(path):
  with pytest.raises(
    ValueError, match=r'^Expected a path in out; got .*; corr'
  ):
    paths.expanded(path, 'out')
