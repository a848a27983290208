"""Tests of giajax.report.prose."""

import functools

from giajax.metrics import success
from giajax.report import prose


def test_every_judgement_has_words():
  assert [*prose._VERDICTS] == [*success.WORDS]


def test_near_the_threshold_is_borderline():
  said = functools.partial(prose._found, 'image')
  assert said(0, 1, 1) == (
    'Borderline, so look at the image: it is near the threshold of recognition'
  )
  assert said(0, 2, 4).startswith('Borderline, so look at the images')
  assert said(1, 2, 4) == (
    '1 of 4 images came back recognisably, and 2 came near the threshold'
  )
  assert said(0, 0, 1) == 'The image did not come back recognisably'
  assert said(4, 0, 4) == 'All 4 images came back recognisably'
  assert prose._found('row', 4, 0, 4) == 'All 4 rows came back readably'
