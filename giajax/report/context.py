"""The report's context: what the attacker knew, how real the setting is."""

from collections.abc import Mapping
from typing import Any

from giajax import threat as rules
from giajax.report import markup
from giajax.results import collection
from giajax.results import wording

tag = markup.tag
_DEPLOYMENT = (
  'Deployment-like: nothing here makes the attack easier than a deployed '
  'system would.'
)


def threat(run: collection.Run) -> markup.Html:
  """Returns the threat model in words."""
  facts = run.meta.get('threat') or {}
  granted = facts.get('grants') or {}
  could = {n: text for n, text in granted.items() if n in rules.POWERS}
  knew = {n: text for n, text in granted.items() if n not in could}
  everyone = 'The attacker always sees the model that was sent and the update.'
  return markup.join(
    tag('p', f'{_level(facts.get("level"))} {everyone}'),
    tag(
      'div',
      _knowledge('It knew', knew, 'Nothing else.'),
      _knowledge('It could use', could, 'No right to alter anything.'),
      class_='columns',
    ),
    tag(
      'details',
      tag('summary', 'What was withheld'),
      _knowledge(None, facts.get('withheld'), 'Nothing was withheld.'),
    ),
  )


def setting(run: collection.Run) -> markup.Html:
  """Returns whether the setting helps the attack, and how."""
  captured = any(row['setting'] == 'captured' for row in run.rows)
  count = sum(row['setting'] == 'diagnostic' for row in run.rows)
  if count == 0 and not captured:
    return tag('p', _DEPLOYMENT)
  reasons = dict.fromkeys(
    str(reason)
    for row in run.rows
    for reason in row.get('setting_reasons') or ()
  )
  items = [
    markup.join(tag('dt', reason), tag('dd', rules.REASONS.get(reason, '')))
    for reason in reasons
  ]
  if captured:
    text = (
      'The update was received from a real client, and is not a simulation. '
    )
    text += (
      'What makes this one easier to invert than others:'
      if items
      else 'Nothing about it makes it easier to invert than others.'
    )
    return markup.join(tag('p', text), tag('dl', *items, class_='saw prose'))
  part = '' if count == len(run.rows) else f' ({count} of {len(run.rows)} rows)'
  text = (
    f'Diagnostic{part}: the attack has an easier task here than in a deployed '
    f'system{", because:" if items else "."}'
  )
  return markup.join(tag('p', text), tag('dl', *items, class_='saw prose'))


def received(run: collection.Run) -> markup.Html:
  """Returns what a captured update is, and what was checked about it."""
  facts = run.meta['source']
  size = wording.significant(facts.get('relative_size'))
  lines = [
    f'The file holds {facts.get("meaning")}.',
    f'The update has {size} times the norm of the weights that were sent.',
    *facts.get('notes', ()),
    *facts.get('checks', ()),
  ]
  return tag('ul', *(tag('li', str(line)) for line in lines))


def _level(level: str | None) -> str:
  if not level:
    return 'No named level: the attacker has the grants below and no more.'
  if level not in rules.LEVELS:
    return f'Level {level}.'
  name, meaning, _ = rules.LEVELS[level]
  return (
    f'Level {level} of A to H (Carletti et al., 2025), {name.lower()}: the '
    f'attacker has {meaning}.'
  )


def _knowledge(
  title: str | None, items: Mapping[str, Any] | None, none: str
) -> markup.Html:
  lines = [
    tag('li', str(text or name), tag('span', str(name), class_='label'))
    for name, text in (items or {}).items()
  ]
  body = tag('ul', *lines) if lines else tag('p', none)
  return tag('div', tag('h3', title) if title else None, body, class_='saw')
