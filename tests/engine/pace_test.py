"""Tests of giajax.engine.pace."""

import pytest
import tiny

from giajax.engine import pace
from giajax.engine import run


def _config(**changes):
  return tiny.config(
    cases__count=1, restarts=1, noise_controls=0, run__most_updates=3, **changes
  )


def test_the_time_of_an_update_grows_with_its_steps():
  few, many = (
    pace.seconds(_config(attack__num_steps=steps)) for steps in (8, 8000)
  )
  assert 0 < few < many


def test_a_closed_form_is_timed_as_well():
  assert pace.seconds(_config(attack={'name': 'linear_layer'})) > 0


def test_too_many_updates_are_refused_with_their_cost(tmp_path):
  config = _config(sweep={'seed': (0, 1), 'cases.count': (1, 2)})
  with pytest.raises(ValueError, match=r'at most 3 updates; got 8 .*hours of'):
    run.audit(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
  config.run.most_updates = 8
  config.attack = {'name': 'linear_layer'}
  assert len(run.audit(config, tmp_path / 'run')) == 6
