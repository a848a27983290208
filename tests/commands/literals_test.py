"""Tests of giajax.commands.literals: texts become values."""

from collections.abc import Sequence
import os
from typing import Any

import pytest

from giajax.commands import literals

_HUGE = 400 * '9'  # more than a float can be
_DEEP = 100_000 * '-' + '1'


@pytest.mark.parametrize(
  'text, annotation, expected',
  [
    ('3', int, 3),
    ('3', float, 3.0),
    ('1e-3', float, 1e-3),
    ('None', float | None, None),
    ('None', str, 'None'),
    ('None', str | None, None),
    ('2020', str, '2020'),
    ('True', str | os.PathLike, 'True'),
    ('true', bool, True),
    ('False', bool, False),
    ('cifar', str | None, 'cifar'),
    ('64', Sequence[int], (64,)),
    ('64,32', Sequence[int] | None, (64, 32)),
    ('(32, 32, 3)', tuple[int, int, int], (32, 32, 3)),
    ('[1, 2]', tuple, [1, 2]),
    ('()', tuple, ()),
    ('fc.*, conv?', tuple, ('fc.*', 'conv?')),
    ("{'a': 1}", dict, {'a': 1}),
    ('0.5', Any, 0.5),
    ('imagenet', Any, 'imagenet'),
    ('5', int | str, 5),
    # What does not fit stays as it is, and is refused by whoever takes it.
    ('x', int, 'x'),
    ('1.5', int, 1.5),
    ('yes', bool, 'yes'),
    ('{[1]: 2}', dict, '{[1]: 2}'),
    (_HUGE, float, int(_HUGE)),
    (_DEEP, int, _DEEP),
  ],
)
def test_values_follow_the_annotation(text, annotation, expected):
  value = literals.value(text, annotation)
  assert value == expected
  assert type(value) is type(expected)


def test_keyword_arguments():
  read = literals.keyword_arguments
  assert read('', 'options') == {}
  expected = {'a': 1, 'b': (2, 3), 'c': 'word'}
  assert read('a=1, b=(2, 3), c=word', 'options') == expected
  with pytest.raises(ValueError, match=r'^Expected key=value.*--options=1;'):
    read('1', 'options')


def test_pairs():
  assert literals.pairs('a=b,c=', 'rename') == {'a': 'b', 'c': ''}
  assert literals.pairs('', 'rename') == {}
  for text in ('a', '=b'):
    with pytest.raises(ValueError, match=f'^Expected pairs .*--rename={text}'):
      literals.pairs(text, 'rename')
