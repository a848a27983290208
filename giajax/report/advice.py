"""The report's advice: what was changed, and what that did, stage by stage.

Every line is a run of the same audit with one change. What did not help stays
in the table, because it was tried.
"""

from collections.abc import Mapping, Sequence
import json
from typing import Any

from giajax.metrics import success
from giajax.report import markup
from giajax.results import wording

# Where a defence can stand, in the order of the page.
STAGES = {
  'network': 'Network design',
  'protocol': 'Training protocol',
}
_VALIDATION = 'Client validation'
tag = markup.tag
_Facts = Mapping[str, Any]
_NOTE = (
  'Each line is a run of this audit, with as many cases and steps, and that '
  'one change. Larger batches hold other images. The attacker is told of a '
  'defence. Medians over the images, so that of a few cases they say little; '
  'recognisable as above. The stages are those of Guo et al. (TPAMI 2025). '
  'Another attack may do better against any of them.'
)
_COSTS = (
  'The time is that of one client’s update, the size the number of parameters '
  'that it trains, both against the audited system; kept is the cosine between '
  'the update and the one without the defence, 1 where nothing is distorted.'
)


def section(told: _Facts) -> markup.Html:
  """Returns a table a stage, the most effective change first.

  Args:
    told: what `advice.json` holds.
  """
  audited, found = told['audited'], told['changes']
  return markup.join(
    tag('p', _summary(audited, found)),
    tag('p', _NOTE, ' ', _COSTS, class_='note'),
    *(
      _stage(title, audited, [c for c in found if c['stage'] == stage])
      for stage, title in STAGES.items()
    ),
    _validation(told['validation']) if 'validation' in told else None,
    tag('pre', told['command']) if told.get('command') else None,
  )


def effect(audited: _Facts, change: _Facts) -> str:
  """Returns in a word or two what a change did to the leakage."""
  before, after = (
    f['recognised'] / f['images'] if f['images'] else 0.0
    for f in (audited, change)
  )
  gain = change['psnr'] - audited['psnr']
  if gain <= -success.LEAK_MARGIN or after < before:
    return 'helps'
  if gain >= success.PARTIAL_MARGIN_PSNR or after > before:
    return 'leaks more'
  if gain <= -success.PARTIAL_MARGIN_PSNR:
    return 'helps a little'
  return 'no effect'


def _summary(audited: _Facts, found: Sequence[_Facts]) -> str:
  tried = [c for c in found if 'reason' not in c]
  if not audited['recognised']:
    return (
      'The audited attack made no image recognisable, so that there is little '
      'to take away; choose a change by an audit that leaks.'
    )
  useful = [c for c in tried if effect(audited, c) == 'helps']
  if not useful:
    return (
      f'None of {wording.plural(len(tried), "change")} took the leakage down '
      f'by {success.LEAK_MARGIN:g} dB, or any image out of recognition.'
    )
  best = min(useful, key=lambda c: (c['recognised'] / c['images'], c['psnr']))
  return (
    f'{len(useful)} of {wording.plural(len(tried), "change")} helped. The most '
    f'effective: {best["title"][0].lower()}{best["title"][1:]}, from '
    f'{wording.figure(audited["psnr"], 1)} to '
    f'{wording.figure(best["psnr"], 1)} dB.'
  )


def _stage(
  title: str, audited: _Facts, found: Sequence[_Facts]
) -> markup.Html | None:
  if not found:
    return None
  tried = [c for c in found if 'reason' not in c]
  trained = any('accuracy' in c for c in (audited, *tried))
  names = ['effect', 'PSNR (dB)', 'SSIM', 'recognisable', 'time', 'size']
  names += ['kept', *['accuracy'] * trained]
  head = tag('tr', *(tag('th', name) for name in ('', *names)))
  lines = [_line('As audited', '', audited, audited, trained, 'chosen')]
  for change in sorted(tried, key=lambda c: c['psnr']):
    word = effect(audited, change)
    lines.append(_line(change['title'], word, audited, change, trained))
  table = tag('table', tag('thead', head), tag('tbody', *lines))
  idle = [
    tag('li', f'{c["title"]}: {c["reason"]}') for c in found if 'reason' in c
  ]
  return markup.join(
    tag('h3', title),
    tag('div', table, class_='scroll') if tried else None,
    tag('details', tag('summary', f'Not tried ({len(idle)})'), tag('ul', *idle))
    if idle
    else None,
    _repeat(tried),
  )


def _validation(facts: _Facts) -> markup.Html:
  """Returns what a client that checks what it receives would have seen."""
  models = wording.plural(facts['models'], 'model')
  text = (
    f'The {facts["checks"]} checks of giajax verify, on images of the client’s '
    f'own, object to {facts["refused"]} of {models} that this server sent, in '
    f'{facts["seconds"]:.1f} s a model. A client that refuses a model sends '
    'nothing.'
  )
  if facts['honest']:
    text += (
      ' This server sends the model that was agreed on, so that an objection '
      'is a false alarm, and no check protects from it.'
    )
  elif facts['agreed']:
    text += (
      ' The agreed weights are objected to as well, by '
      f'{wording.listing(facts["agreed"])}: those checks say nothing here.'
    )
  found = facts['evidence'].items()
  items = (markup.join(tag('dt', k), tag('dd', v)) for k, v in found)
  return markup.join(
    tag('h3', _VALIDATION),
    tag('p', text),
    tag('dl', *items, class_='saw prose') if found else None,
  )


def _line(
  title: str,
  word: str,
  audited: _Facts,
  facts: _Facts,
  trained: bool,
  kind: str | None = None,
) -> markup.Html:
  cells = [
    tag('div', title, class_='name'),
    word,
    wording.score('psnr', facts['psnr']),
    wording.score('ssim', facts['ssim']),
    f'{facts["recognised"]} of {facts["images"]}',
    _times(facts, audited, 'client_seconds'),
    _times(facts, audited, 'parameters'),
    wording.figure(facts.get('fidelity')),
    *[wording.share(facts.get('accuracy'))] * trained,
  ]
  return tag('tr', *(tag('td', cell) for cell in cells), class_=kind)


def _times(facts: _Facts, audited: _Facts, key: str) -> str:
  ratio = wording.number(facts[key]) / audited[key]
  return f'×{ratio:,.0f}' if ratio >= 10 else f'×{ratio:.2g}'


def _repeat(tried: Sequence[_Facts]) -> markup.Html | None:
  if not tried:
    return None
  lines = (
    f'{c["title"]}: {json.dumps(c["overrides"], ensure_ascii=False)}'
    for c in tried
  )
  return tag(
    'details',
    tag('summary', 'What was changed in the configuration'),
    tag('pre', '\n'.join(lines)),
  )
