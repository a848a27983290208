"""Tests of giajax.engine.setting."""

import jax
import numpy as np
import pytest
import tiny

from giajax.engine import build
from giajax.engine import setting


@pytest.fixture(scope='module')
def setup():
  """Returns two images per batch, against fresh weights."""
  return build.setup(build.resolve(tiny.config(cases__batch_size=2)))


def test_weights_are_trained_by_what_they_can_do(setup):
  assert 'untrained weights' in setting.describe(setup, 0)['setting_reasons']

  every = np.asarray(setup.dataset.take(np.arange(16)).x)

  def knows(variables, x, **kwargs):
    seen = setup.net.apply(variables, x, **kwargs)
    errors = every[None] - x[:, None]
    return seen._replace(out=-(errors**2).sum((-3, -2, -1)))

  wise = setup._replace(viewer=lambda: setup.net._replace(apply=knows))
  found = setting.describe(wise, 0)
  assert found['accuracy'] == 1
  assert 'untrained weights' not in found['setting_reasons']


def test_auxiliary_images_of_a_batch_are_one_more_reason(setup):
  plain = setting.describe(setup, 0)
  known = setting.describe(setup, 0, known_before=True)
  (reason,) = {*known['setting_reasons']} - {*plain['setting_reasons']}
  assert reason == 'images in the auxiliary data'
  assert setting.describe(setup, 0) == plain


def test_it_is_measured_once(setup, monkeypatch):
  calls = []
  classified = setting._classified
  monkeypatch.setattr(
    setting, '_classified', lambda *a: calls.append(1) or classified(*a)
  )
  other = setup._replace(variables=setup.net.init(jax.random.key(5)))
  for one in (setup, other, other, setup._replace()):
    setting.describe(one, 3)
  assert len(calls) == 3
