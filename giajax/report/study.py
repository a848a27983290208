"""The report's study: what a paper found, compared with what this run found."""

from giajax.report import markup
from giajax.results import collection
from giajax.results import study

tag = markup.tag


def section(run: collection.Run) -> list[markup.Html]:
  """Returns the study as elements of the page; see `results.study`."""
  about = run.meta['config']['study']
  head, *body = study.table(run)
  context = [about.get('claim'), about.get('source')]
  return [
    *(tag('p', text, class_='note') for text in context if text),
    tag(
      'table',
      tag('thead', tag('tr', *(tag('th', cell) for cell in head))),
      tag(
        'tbody',
        *(tag('tr', *(tag('td', cell) for cell in row)) for row in body),
      ),
    ),
    tag('ul', *(tag('li', text) for text in study.sentences(run))),
  ]
