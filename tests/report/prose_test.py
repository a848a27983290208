"""Tests of giajax.report.prose."""

from giajax.metrics import success
from giajax.report import prose


def test_every_judgement_has_words():
  assert [*prose._VERDICTS] == [*success.WORDS]


def test_near_the_threshold_is_borderline():
  assert prose._images(0, 1, 1) == (
    'Borderline, so look at the image: it is near the threshold of recognition'
  )
  assert prose._images(0, 2, 4).startswith('Borderline, so look at the images')
  assert prose._images(1, 2, 4) == (
    '1 of 4 images came back recognisably, and 2 came near the threshold'
  )
  assert prose._images(0, 0, 1) == 'The image did not come back recognisably'
  assert prose._images(4, 0, 4) == 'All 4 images came back recognisably'
