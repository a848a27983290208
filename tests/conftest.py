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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Keeps tests that share a compiled program in one process.

  All tests of a row share its evaluation (in `models` across files), those of
  a file its fixtures.
  """
  for item in items:
    path = item.path.relative_to(pathlib.Path(__file__).parent)
    parameters = getattr(getattr(item, 'callspec', None), 'params', {})
    row = parameters.get('case', parameters.get('name'))
    shared = path.parent if path.parent.name == 'models' and row else path
    group = f'{shared}:{row}' if isinstance(row, str) else str(shared)
    item.add_marker(pytest.mark.xdist_group(group))
