"""The frame of a page of HTML that needs no other file."""

from giajax.report import markup
from giajax.report import sorting
from giajax.report import stylesheet

tag = markup.tag


def document(title: str, *children: markup.Html | None) -> str:
  """Returns a page, whose tables are sorted by a click on their titles.

  Args:
    title: what the window is called.
    *children: what the page shows.
  """
  head = tag(
    'head',
    tag('meta', charset='utf-8'),
    tag('meta', name='viewport', content='width=device-width, initial-scale=1'),
    tag('title', title),
    tag('style', markup.Html(stylesheet.CSS)),
  )
  script = tag('script', markup.Html(sorting.SCRIPT))
  body = tag('body', tag('main', *children, script))
  return f'<!doctype html>\n{tag("html", head, body, lang="en")}\n'
