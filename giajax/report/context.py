"""The report's context: what the attacker knew, how real the setting is."""

from collections.abc import Mapping
from typing import Any

from giajax.report import markup
from giajax.report import prose
from giajax.results import collection

tag = markup.tag
_DEPLOYMENT = (
  'Deployment-like: none of the rules that mark a result as an upper bound '
  'applies here.'
)


def threat(run: collection.Run) -> markup.Html:
  """Returns the threat model in words."""
  known = run.meta.get('threat') or {}
  everyone = 'The attacker always sees the model it sent and the update.'
  return markup.join(
    tag('p', f'{_level(known.get("level"))} {everyone}'),
    tag(
      'div',
      _knowledge('It also saw', known.get('grants'), 'Nothing else.'),
      _knowledge(
        'It did not see', known.get('withheld'), 'Nothing was withheld.'
      ),
      class_='columns',
    ),
  )


def setting(run: collection.Run) -> markup.Html:
  """Returns whether the result is an upper bound, and why."""
  count = sum(row['setting'] == 'diagnostic' for row in run.rows)
  if count == 0:
    return tag('p', _DEPLOYMENT)
  reasons = dict.fromkeys(
    str(reason)
    for row in run.rows
    for reason in row.get('setting_reasons') or ()
  )
  items = [
    markup.join(tag('dt', reason), tag('dd', prose.explain(reason)))
    for reason in reasons
  ]
  part = '' if count == len(run.rows) else f' ({count} of {len(run.rows)} rows)'
  text = (
    f'Diagnostic{part}: an upper bound on what such an update gives away, not '
    f'what a deployed system would{", because:" if items else "."}'
  )
  return markup.join(tag('p', text), tag('dl', *items, class_='saw prose'))


def _level(level: str | None) -> str:
  if not level:
    return 'No named level: the grants below are the whole of it.'
  meaning = prose.LEVELS.get(level)
  if not meaning:
    return f'Level {level}.'
  return f'Level {level} of A to H (Carletti et al., 2025). {meaning}.'


def _knowledge(
  title: str, items: Mapping[str, Any] | None, none: str
) -> markup.Html:
  lines = [
    tag('li', str(text or name), tag('span', str(name), class_='label'))
    for name, text in (items or {}).items()
  ]
  body = tag('ul', *lines) if lines else tag('p', none)
  return tag('div', tag('h3', title), body, class_='saw')
