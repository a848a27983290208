"""Tests of what launch commands make of mistakes."""

import pytest

from launch import errors


def test_a_deliberate_error_is_one_line_and_a_bug_is_raised(capsys):
  @errors.reported
  def main(argv):
    raise ValueError(argv[0])

  assert main(['Expected a\nb']) == 2
  assert capsys.readouterr().err == 'launch: Expected a\\nb\n'
  with pytest.raises(ValueError, match='a bug'):
    main(['a bug'])


def test_a_disk_that_refuses_is_a_deliberate_error():
  refused = pytest.raises(
    ValueError, match=r'^Expected an --out .*full; choose'
  )
  with refused, errors.writing():
    raise OSError('full')
