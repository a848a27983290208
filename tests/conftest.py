"""Fixtures that several test files share."""

import pathlib

import pytest


@pytest.fixture(scope='session')
def shared_data() -> pathlib.Path:
  """Returns the folder of real data and weights beside the repository."""
  root = pathlib.Path(__file__).resolve().parents[1]
  path = root.parent / 'shared' / 'data'
  if not path.is_dir():
    pytest.skip(f'needs real data and weights, which are not at {path}')
  return path
