"""Tests of one image that makes the whole gradient."""

import handmade
import pytest


def test_the_share_of_one_image_by_hand():
  message = handmade.received(fc__bias=handmade.only_last)
  verdict = handmade.run('dominance', message, handmade.LAST)
  assert verdict.score == pytest.approx(1.0, abs=1e-6)
