"""Tests of giajax.engine.signals: what becomes of a request to stop."""

import os
import signal

import pytest

from giajax import interrupts
from giajax.engine import signals


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_program_that_uses_the_package(number):
  """The first signal is for the loop, and the second one ends the program."""
  before = signal.getsignal(number)
  with signals.Stop() as stop:
    with stop.saving():
      assert not stop.asked
      os.kill(os.getpid(), number)
      assert stop.asked
    with pytest.raises(SystemExit) as ended:
      os.kill(os.getpid(), number)
    assert ended.value.code == 128 + number
  assert signal.getsignal(number) is before


@pytest.fixture(name='requests')
def _requests(monkeypatch):
  """Returns what is asked behind the loop, in a command that watches."""
  requests = []
  monkeypatch.setattr(interrupts, 'watched', lambda: True)
  monkeypatch.setattr(interrupts, 'ask', lambda: requests.append('again'))
  return requests


def test_a_command_takes_the_first_request_to_save(requests):
  before = signal.getsignal(signal.SIGTERM)
  with signals.Stop() as stop:
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(signals.Interrupted), stop.saving():
      assert [take() for take in 2 * interrupts._takers] == [True, False]
      raise signals.Interrupted('saved')
  assert not requests and not interrupts._takers


def test_a_request_behind_the_last_look_is_asked_again(requests):
  with signals.Stop() as stop:
    with stop.saving():
      pass
    assert not requests
    with stop.saving():
      assert stop._take()
  assert requests == ['again']
