"""Tests of what text from elsewhere may do where it is printed: nothing."""

import pytest

from giajax import printable

_CASES = {
  'layer1.0.conv.weight': 'layer1.0.conv.weight',
  'Größe ≥ 3 – 日本': 'Größe ≥ 3 – 日本',
  r'C:\x1b': r'C:\x1b',
  'a\x1b[2J\x9bb\x00\x7f': r'a\x1b[2J\x9bb\x00\x7f',
  'ok\ngiajax: clean\r\u2028\x85': r'ok\ngiajax: clean\r\u2028\x85',
  'right \u202e left \u2066 none \u200b': (
    r'right \u202e left \u2066 none \u200b'
  ),
  'caf\udce9': r'caf\udce9',
}


@pytest.mark.parametrize('text, shown', _CASES.items())
def test_only_what_shows_itself_is_left(text, shown):
  assert printable.line(text) == shown
  assert shown.isprintable() and shown.encode('utf-8')


def test_a_page_keeps_its_lines():
  page = 'one\n\ttwo\x1b[2J\r\n\udce9\n'
  assert printable.page(page) == 'one\n\ttwo\\x1b[2J\\r\n\\udce9\n'
