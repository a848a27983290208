"""Tests of a change along all directions."""

import handmade
import numpy as np
import pytest


def test_update_rank_is_that_of_the_change():
  alone = handmade.run_bare('update_rank')
  assert not alone.ran and 'no weights accepted' in alone.evidence
  kernel = np.asarray(handmade.fresh().params['hidden']['kernel'])
  for scale in (1.0, 0.9):
    same = handmade.run(
      'update_rank', handmade.received(hidden__kernel=handmade.scaled(scale))
    )
    assert not same.ran and 'did not change' in same.evidence
  rng = np.random.default_rng(0)
  left, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for n in kernel.shape)
  most = min(kernel.shape)
  for count, score in ((most // 4, 0.0), (most, 0.75)):
    moved = kernel + left[:, :count] @ right[:count]
    verdict = handmade.run(
      'update_rank', handmade.received(hidden__kernel=handmade.as_is(moved))
    )
    assert verdict.score == pytest.approx(score, abs=0.03)
