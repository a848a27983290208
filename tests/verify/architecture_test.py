"""Tests of layers, shapes and counts."""

import handmade


def test_what_is_wrong_with_an_architecture():
  verdict = handmade.run('architecture', handmade.surplus())
  assert 'surplus: front.back.kernel, front.kernel' in verdict.evidence
  assert 'front 108 to 9, front.back 9 to 108' in verdict.evidence
  assert verdict.score == 4
