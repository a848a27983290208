"""Tests of giajax.registry."""

import functools
from typing import NamedTuple

import pytest

from giajax import registry

TABLE = {'circle': 1, 'square': 2}


def test_known():
  assert registry.lookup(TABLE, 'circle', 'shape') == 1


def test_unknown_names_the_near_one():
  with pytest.raises(ValueError) as error:
    registry.lookup(TABLE, 'sqare', 'shape')
  assert str(error.value) == (
    "Expected a known shape (circle, square); got shape='sqare'; did you mean "
    "'square'?"
  )


@pytest.mark.parametrize('name', ['zzz', None, 3, ['zzz'], {}])
def test_unknown_names_all(name):
  with pytest.raises(ValueError) as error:
    registry.lookup(TABLE, name, 'shape')
  assert str(error.value) == (
    f'Expected a known shape (circle, square); got shape={name!r}; choose one '
    'of them'
  )


def documented(size, *, colour=None):
  """Makes a thing.

  Of a size.
  """


def bare():
  pass


class Pair(NamedTuple):
  """What all pairs are."""

  first: object
  second: object = None


def test_summary_of_functions():
  assert registry.summary(documented) == 'Makes a thing.'
  assert registry.summary(bare) == ''
  assert registry.summary(registry).startswith('Looking a name up')


def test_summary_of_partials_names_what_is_bound():
  partial = functools.partial(documented, colour='red')
  assert registry.summary(partial) == "Makes a thing. [colour='red']"
  partial = functools.partial(documented, 3)
  assert registry.summary(partial) == 'Makes a thing. [3]'


def test_summary_of_records_is_that_of_their_functions():
  assert registry.summary(Pair(documented)) == 'Makes a thing.'
  assert registry.summary(Pair(bare, documented)) == 'Makes a thing.'
  assert registry.summary(Pair(bare)) == ''


class Measure(NamedTuple):
  """What all measures are."""

  meaning: str
  score: object = documented


def test_summary_of_a_record_with_a_meaning_is_its_first_sentence():
  assert registry.summary(Measure('How far. Lower is closer.')) == 'How far.'
  assert registry.summary(Measure('How near.')) == 'How near.'
