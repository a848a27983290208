"""The report's advice: what was changed, and what that did, stage by stage.

Every line is a run of the same audit with one change. An effect is named only
where chance does not explain it. What did not help stays in the table, because
it was tried.
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
# The largest p-value of a difference that is called an effect.
LEVEL = 0.01
# Updates that this takes if the same images are attacked again: 2 / 2^8 < 1 %.
LEAST_UPDATES = 8
_NOTE = (
  'Each line is a run of this audit with one change, and with as many cases, '
  'restarts and steps. The attacker knows of any defence. PSNR and SSIM are '
  'medians over the images; “recognisable” is defined above. The stages '
  'are those of Guo et al. (TPAMI 2025). Another attack may do better against '
  'any of the changes.'
)
_TEST = (
  'An effect is named only if the mean PSNR of the updates differs by more '
  f'than chance explains: p is at most {LEVEL:g} in a permutation test. '
  'Updates of the same images are compared pairwise; a change that alters the '
  'batches leads to other images. An effect of less than '
  f'{success.PARTIAL_MARGIN_PSNR:g} dB counts as negligible.'
)
_COSTS = (
  'Time is the median time that one client takes per image of its update, '
  'compiled and warm, measured in turn with the audited client. Size is the '
  'number of parameters that the client trains. Both are multiples of the '
  'audited system’s. Kept is the cosine between the update and the one without '
  'the defence, 1 where nothing is distorted.'
)
_HELPS, _LITTLE, _MORE = 'helps', 'helps a little', 'leaks more'
_CLAIMS = (_HELPS, _LITTLE, _MORE)  # in this order on the page


def section(record: _Facts) -> markup.Html:
  """Returns a table per stage, the most effective change first.

  Args:
    record: what `advice.json` holds.
  """
  audited, changes = record['audited'], record['changes']
  if any('reason' not in c and 'chance' not in c for c in changes):
    return tag(
      'p',
      'The changes were measured by an earlier version, which did not tell '
      'effects from chance. Run giajax advise again.',
    )
  return markup.join(
    tag('p', _summary(audited, changes)),
    *(tag('p', text, class_='note') for text in (_NOTE, _TEST, _COSTS)),
    *(
      _stage(title, audited, [c for c in changes if c['stage'] == stage])
      for stage, title in STAGES.items()
    ),
    _validation(record['validation']) if 'validation' in record else None,
    tag('pre', record['command']) if record.get('command') else None,
  )


def effect(audited: _Facts, change: _Facts) -> str:
  """Returns in a few words how a change affects what the attack recovers.

  Args:
    audited: the facts about the audited system, as `advice.json` has them.
    change: the facts about a change that was tried.
  """
  word = _claim(audited, change)
  if not audited['recovered'] and word != _MORE:
    return 'nothing to take away'
  return word


def _claim(audited: _Facts, change: _Facts) -> str:
  if change['chance'] is None:
    return 'too few updates to tell'
  if change['chance'] > LEVEL:
    return 'no more than chance'
  gain = change['gain']
  before, after = (f['recognised'] / f['images'] for f in (audited, change))
  if gain <= -success.LEAK_MARGIN or (gain < 0 and after < before):
    return _HELPS
  if gain >= success.PARTIAL_MARGIN_PSNR or (gain > 0 and after > before):
    return _MORE
  return _LITTLE if gain <= -success.PARTIAL_MARGIN_PSNR else 'negligible'


def _summary(audited: _Facts, changes: Sequence[_Facts]) -> str:
  trials = [c for c in changes if 'reason' not in c]
  words = [effect(audited, c) for c in trials]
  if not audited['recovered']:
    text = (
      'The audited attack recovered nothing, so that a change has nothing to '
      'take away, and none is ranked. Choose a change by an audit that leaks.'
    )
    count = words.count(_MORE)
    more = f' More came back after {wording.plural(count, "change")}.'
    return text + (more if count else '')
  useful = [c for c, word in zip(trials, words) if word == _HELPS]
  if useful:
    best = min(useful, key=lambda c: (c['recognised'] / c['images'], c['psnr']))
    return (
      f'{len(useful)} of {wording.plural(len(trials), "change")} helped. The '
      f'most effective: {best["title"][:1].lower()}{best["title"][1:]}, from '
      f'{wording.figure(audited["psnr"], 1)} to '
      f'{wording.figure(best["psnr"], 1)} dB.'
    )
  if trials and all(c['chance'] is None for c in trials):
    return (
      f'{wording.plural(audited["updates"], "update")} cannot tell an effect '
      f'from chance. Audit at least {LEAST_UPDATES}, by cases.count.'
    )
  return (
    f'None of {wording.plural(len(trials), "change")} lowered the PSNR by '
    f'{success.LEAK_MARGIN:g} dB, or made fewer images recognisable, by more '
    'than chance explains.'
  )


def _stage(
  title: str, audited: _Facts, changes: Sequence[_Facts]
) -> markup.Html | None:
  if not changes:
    return None
  trials = [c for c in changes if 'reason' not in c]
  trained = any('accuracy' in c for c in (audited, *trials))
  names = ['effect', 'PSNR (dB)', 'SSIM', 'recognisable', 'time', 'size']
  names += ['kept', *['accuracy'] * trained]
  head = tag('tr', *(tag('th', name) for name in ('', *names)))
  lines = [_line('As audited', None, audited, audited, trained, 'chosen')]
  for change in _ordered(audited, trials):
    cell = _effect(audited, change)
    lines.append(_line(change['title'], cell, audited, change, trained))
  table = tag('table', tag('thead', head), tag('tbody', *lines))
  idle = [
    tag('li', f'{c["title"]}: {c["reason"]}') for c in changes if 'reason' in c
  ]
  return markup.join(
    tag('h3', title),
    tag('div', table, class_='scroll') if trials else None,
    tag('details', tag('summary', f'Not tried ({len(idle)})'), tag('ul', *idle))
    if idle
    else None,
    _repeat(trials),
  )


def _ordered(audited: _Facts, trials: Sequence[_Facts]) -> list[_Facts]:
  """Returns the changes, those with an effect first and ordered by its size."""
  words = [effect(audited, c) for c in trials]
  claimed = [(c, w) for c, w in zip(trials, words) if w in _CLAIMS]
  claimed.sort(key=lambda pair: (_CLAIMS.index(pair[1]), pair[0]['psnr']))
  rest = [c for c, w in zip(trials, words) if w not in _CLAIMS]
  return [c for c, _ in claimed] + rest


def _effect(audited: _Facts, change: _Facts) -> markup.Html:
  chance = change['chance']
  value = None if chance is None else f'p = {chance:.2g}'
  label = tag('span', value, class_='label') if value else None
  return markup.join(effect(audited, change), label)


def _validation(facts: _Facts) -> markup.Html:
  """Returns what a client that checks what it receives would have seen."""
  if 'reason' in facts:
    text = f'Not tried: {facts["reason"]}'
    return markup.join(tag('h3', _VALIDATION), tag('p', text))
  models = wording.plural(facts['models'], 'model')
  text = (
    f'The {facts["checks"]} checks of giajax verify, on images of the client’s '
    f'own, object to {facts["refused"]} of {models} that this server sent, in '
    f'{wording.significant(facts["seconds"])} s per model. A client that '
    'refuses a model sends nothing.'
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
  evidence = facts['evidence'].items()
  items = (markup.join(tag('dt', k), tag('dd', v)) for k, v in evidence)
  return markup.join(
    tag('h3', _VALIDATION),
    tag('p', text),
    tag('dl', *items, class_='saw prose') if evidence else None,
  )


def _line(
  title: str,
  word: str | None,
  audited: _Facts,
  facts: _Facts,
  trained: bool,
  kind: str | None = None,
) -> markup.Html:
  own = wording.number(facts['seconds_per_image'])
  usual = wording.number(facts['audited_seconds_per_image'])
  cells = [
    tag('div', title, class_='name'),
    word,
    wording.score('psnr', facts['psnr']),
    wording.score('ssim', facts['ssim']),
    f'{facts["recognised"]} of {facts["images"]}',
    _times(own, own if facts is audited else usual),
    _times(facts['parameters'], audited['parameters']),
    wording.figure(facts.get('fidelity')),
    *[wording.share(facts.get('accuracy'))] * trained,
  ]
  return tag('tr', *(tag('td', cell) for cell in cells), class_=kind)


def _times(number: float, usual: float) -> str:
  if not usual:
    return '–'
  ratio = number / usual
  return f'×{ratio:,.0f}' if ratio >= 10 else f'×{ratio:.2g}'


def _repeat(trials: Sequence[_Facts]) -> markup.Html | None:
  if not trials:
    return None
  lines = (
    f'{c["title"]}: {json.dumps(c["overrides"], ensure_ascii=False)}'
    for c in trials
  )
  return tag(
    'details',
    tag('summary', 'What was changed in the configuration'),
    tag('pre', '\n'.join(lines)),
  )
