"""Tests of giajax.attacks.parts.measurements."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.attacks.parts import measurements

SHAPE = (4, 3, 3)


@pytest.mark.parametrize('law', measurements.LAWS)
def test_laws_are_standard(law):
  p = (np.arange(20_000) + 0.5) / 20_000
  quantiles = measurements.LAWS[law](p)
  assert quantiles.mean() == pytest.approx(0, abs=1e-6)
  assert quantiles.std() == pytest.approx(1, rel=1e-2)
  ends = measurements.edges(law, 40)
  assert len(ends) == 41 and (np.diff(ends) > 0).all()
  medians = measurements.centres(law, 40)
  assert (ends[:-1] < medians).all() and (medians < ends[1:]).all()


@pytest.mark.parametrize('name', measurements.FUNCTIONALS)
def test_functionals_are_weights_of_an_image(name):
  f = measurements.FUNCTIONALS[name](jax.random.key(0), SHAPE)
  assert f.shape == SHAPE and jnp.abs(f).max() > 0
  total = 1 if name == 'mean' else 0
  assert f.sum() == pytest.approx(total, abs=1e-4)


def test_statistics_are_given_or_measured():
  f = measurements.mean(jax.random.key(0), SHAPE)
  assert measurements.statistics({}, f, 0.4, 0.1) == (0.4, 0.1)
  assert measurements.knowledge(0.4) == frozenset()
  proxy = jax.random.uniform(jax.random.key(1), (9, *SHAPE))
  side = {'proxy_data': proxy}
  assert measurements.knowledge(None) == {'proxy_data'}
  centre, deviation = measurements.statistics(side, f, None, None)
  levels = np.asarray(proxy).mean((1, 2, 3))
  np.testing.assert_allclose(centre, levels.mean(), rtol=1e-5)
  np.testing.assert_allclose(deviation, levels.std(), rtol=1e-4)
  _, deviation = measurements.statistics(
    {'proxy_data': proxy[:1]}, f, None, None
  )
  assert deviation > 0


@pytest.mark.parametrize(
  ('kwargs', 'message'),
  [
    (dict(law='cauchy'), 'gaussian, laplace'),
    (dict(location=0.5), 'scale=None'),
    (dict(scale=0.5), 'location=None'),
    (dict(location=float('nan'), scale=1.0), 'location=nan'),
    (dict(location=0.5, scale=0.0), 'scale=0.0'),
  ],
)
def test_refusals(kwargs, message):
  known = dict(law='gaussian', location=None, scale=None)
  with pytest.raises(ValueError, match=f'^Expected.*{message}'):
    measurements.check(**{**known, **kwargs})
