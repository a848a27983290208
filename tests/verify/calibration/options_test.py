"""Tests of the command lines of `thresholds` and `detection`."""

import pytest

from giajax.verify.calibration import detection
from giajax.verify.calibration import thresholds


@pytest.mark.parametrize(
  'main, flag, words',
  [
    (detection.main, '--seed=2', 'known flags'),
    (detection.main, '--probe=7', 'known flags'),
    (detection.main, '--attacks=fish', 'a known attack'),
    (detection.main, '--networks=mpl', 'a known network'),
    (thresholds.main, '--networks=mpl', 'a known network'),
    (thresholds.main, 'scale', 'known flags'),
    (thresholds.main, '--only=scales', 'a known check'),
  ],
)
def test_names_that_are_unknown(capsys, main, flag, words):
  assert main(['program', flag]) == 2
  error = capsys.readouterr().err
  assert f'Expected {words}' in error and len(error.splitlines()) == 1


@pytest.mark.parametrize('command', [detection, thresholds])
def test_help(capsys, command):
  assert command.main(['program', '--help']) == 0
  text = capsys.readouterr().out
  assert text.startswith(command.__doc__.splitlines()[0])
  assert f'python -m {command.__name__}' in text
  usage, _, flags = text.partition('\nFlags:\n')
  # What the usage names exists, and the other way round.
  names = [line.split('=')[0] for line in flags.splitlines() if '  --' in line]
  assert {name.strip() for name in names} - {'--help'} == {
    word.strip('[]').split('=')[0]
    for line in usage.split('\n\n')[1:2]
    for word in line.split()
    if word.startswith('[--')
  }
