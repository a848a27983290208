"""Tests of giajax.paths: what names no file is refused."""

import pathlib

import pytest

from giajax import paths


def test_homes_are_expanded_and_files_may_be_missing(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  assert paths.expanded('~/a', 'out') == tmp_path / 'a'
  assert paths.expanded(tmp_path / 'no' / 'b', 'out') == tmp_path / 'no' / 'b'
  assert paths.expanded('', 'out') == pathlib.Path()


@pytest.mark.parametrize('path', ['~nouser/x', 300 * 'x', 'a\0b'])
def test_what_names_no_file_is_refused(path):
  with pytest.raises(ValueError, match=r'^Expected a path in out; got .*\('):
    paths.expanded(path, 'out')


def test_urls_are_no_paths():
  assert paths.is_url('gs://b/a') and paths.is_url('s3+x://')
  assert not any(map(paths.is_url, ('gs:/b', 'a//b', pathlib.Path('gs://b'))))
  assert paths.below('gs://b/a/', 'c') == 'gs://b/a/c'
  assert paths.below('b/a/', 'c') == 'b/a/c'
  with pytest.raises(ValueError, match=r'a path in out; got the URL gs://b/a;'):
    paths.expanded('gs://b/a', 'out')
