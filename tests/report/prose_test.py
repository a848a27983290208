"""Tests of giajax.report.prose."""

from giajax.metrics import success
from giajax.report import prose


def test_every_judgement_has_words():
  assert [*prose._VERDICTS] == [*success.WORDS]
