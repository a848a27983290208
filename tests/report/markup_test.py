"""Tests of giajax.report.markup."""

from giajax.report import markup


def test_markup_escapes_all_but_html():
  made = markup.tag('p', 'a < b', markup.tag('br'), None, class_='"', id=None)
  assert made == '<p class="&quot;">a &lt; b<br></p>'
