"""Tests of giajax.metrics.assignment against brute force."""

import itertools

import numpy as np
import pytest

from giajax.metrics import assignment


def stack(key, number):
  return key.random((number, 4, 4, 2), np.float32)


def least_total(truth, found, valid):
  """The least total MSE over all one-to-one matchings, by enumeration."""
  slots = np.flatnonzero(valid)
  costs = ((truth[:, None] - found[None, slots]) ** 2).mean((2, 3, 4))
  if len(slots) < len(truth):
    costs = costs.T
  rows = np.arange(len(costs))
  return min(
    costs[rows, list(columns)].sum()
    for columns in itertools.permutations(range(costs.shape[1]), len(costs))
  )


@pytest.mark.parametrize('slots', [3, 4, 6])
@pytest.mark.parametrize('seed', range(5))
def test_equals_brute_force(slots, seed):
  key = np.random.default_rng(seed)
  truth, found = stack(key, 4), stack(key, slots)
  valid = key.random(slots) < 0.8
  valid[0] = True
  got = assignment.assign(truth, found, valid)
  matched = got != assignment.UNMATCHED
  assert matched.sum() == min(4, valid.sum())
  assert len(set(got[matched])) == matched.sum()
  assert valid[got[matched]].all()
  total = ((truth[matched] - found[got[matched]]) ** 2).mean((1, 2, 3)).sum()
  np.testing.assert_allclose(total, least_total(truth, found, valid), rtol=1e-5)


def test_undoes_a_permutation():
  key = np.random.default_rng(0)
  truth = stack(key, 6)
  order = key.permutation(6)
  got = assignment.assign(truth, truth[order], np.ones(6, bool))
  np.testing.assert_array_equal(order[got], np.arange(6))
  assert got.dtype == np.int32


def test_invalid_slots_are_never_used():
  truth = stack(np.random.default_rng(0), 2)
  found = np.concatenate([truth, 1 - truth])
  valid = np.array([False, True, False, False])
  np.testing.assert_array_equal(
    assignment.assign(truth, found, valid), [assignment.UNMATCHED, 1]
  )
  np.testing.assert_array_equal(
    assignment.assign(truth, found, np.zeros(4, bool)), [-1, -1]
  )


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_failed_slots_come_last_but_are_counted(bad):
  truth = stack(np.random.default_rng(0), 2)
  found = np.stack([np.full_like(truth[0], bad), truth[0], truth[1] * 1e15])
  valid = np.ones(3, bool)
  np.testing.assert_array_equal(assignment.assign(truth, found, valid), [1, 2])
  np.testing.assert_array_equal(
    assignment.assign(truth, found[:2], valid[:2]), [1, 0]
  )


def test_shapes_must_belong_together():
  x = np.zeros((2, 4, 4, 1))
  with pytest.raises(ValueError, match='Expected truth'):
    assignment.assign(x, x[:, :2], np.ones(2, bool))
  with pytest.raises(ValueError, match=r'valid.shape=\(3,\)'):
    assignment.assign(x, x, np.ones(3, bool))
