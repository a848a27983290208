"""Tests of giajax.metrics.rdlv: answers known by hand."""

import numpy as np

from giajax.metrics import rdlv


def test_gain_over_the_prior():
  found = [0.6, 0.2, 0.1, np.nan, 0.9, 0.9, 0.9]
  prior = [0.2, 0.2, 0.2, 0.2, 0.0, -0.1, np.nan]
  expected = [2, 0, -0.5, -1, np.nan, np.nan, np.nan]
  np.testing.assert_allclose(rdlv.rdlv(found, prior), expected, rtol=1e-6)


def test_one_prior_for_all():
  assert np.isnan(rdlv.rdlv([0.1, 0.2], np.nan)).all()
  np.testing.assert_allclose(rdlv.rdlv([0.5, 1.0], 0.5), [0, 1])
