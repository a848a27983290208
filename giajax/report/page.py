"""The report as one self-contained page of HTML."""

from collections.abc import Mapping, Sequence
import json
from typing import Any

from giajax.metrics import METRICS
from giajax.report import advice
from giajax.report import context
from giajax.report import document
from giajax.report import figures
from giajax.report import gallery
from giajax.report import markup
from giajax.report import overview
from giajax.report import prose
from giajax.report import remedies
from giajax.report import study as study_section
from giajax.report import tables
from giajax.results import collection
from giajax.results import columns
from giajax.results import study
from giajax.results import wording

tag = markup.tag
_OPEN_CASES = 12  # a table of more cases than this is collapsed at first


def render(
  run: collection.Run,
  samples: Sequence[collection.Sample],
  plots: figures.Figures,
  changes: Mapping[str, Any] | None = None,
) -> str:
  """Returns the page.

  Args:
    run: the run.
    samples: the images of the gallery.
    plots: the plots.
    changes: what `giajax advise` found, if it was run.
  """
  title = f'{_values(run, "attack")} against {_values(run, "model")}'
  sections = _sections(run, samples, plots, title, changes)
  return document.document(f'{title} – giajax report', *sections)


def _sections(
  run: collection.Run,
  samples: Sequence[collection.Sample],
  plots: figures.Figures,
  title: str,
  changes: Mapping[str, Any] | None,
) -> list[markup.Html | None]:
  return [
    _opening(run, title),
    _section('What came back', gallery.gallery(run, samples)),
    _received(run),
    _section('What the attacker knew', context.threat(run)),
    _section('How real the setting is', context.setting(run)),
    _numbers(run),
    _curves(run, plots),
    _sweep(run, plots),
    _study(run),
    None
    if changes is None
    else _section('What was changed', advice.section(changes)),
    _section('What to change', remedies.section(run, changes is not None)),
    _provenance(run),
  ]


def _opening(run: collection.Run, title: str) -> markup.Html:
  facts = {
    'attack': _values(run, 'attack'),
    'model': _values(run, 'model'),
    'data': _values(run, 'dataset'),
    'auxiliary data': _auxiliary(run),
    'batch size': _values(run, 'batch_size'),
    'client': _named(run, 'client'),
    'the server believes': _belief(run),
    'defence': _named(run, 'defense') or _named(run, 'defenses'),
    'steps': _values(run, 'steps'),
    'restarts': _values(run, 'restarts'),
    'attacks tried' if run.meta.get('source') else 'updates attacked': str(
      len(run.rows)
    ),
  }
  pairs = [
    tag('div', tag('dt', name), tag('dd', value))
    for name, value in facts.items()
    if value
  ]
  return tag(
    'header',
    tag('h1', f'giajax report: {title}'),
    tag('p', prose.verdict(run), class_=f'verdict {prose.tone(run)}'),
    tag('p', ' '.join([prose.rule(run), *prose.caveats(run)]), class_='note'),
    tag('dl', *pairs, class_='facts'),
  )


def _received(run: collection.Run) -> markup.Html | None:
  if not run.meta.get('source'):
    return None
  return _section('What was received', context.received(run))


def _numbers(run: collection.Run) -> markup.Html:
  if not any(map(columns.is_scored, run.rows)):
    return _section('The numbers', tables.unscored(run))
  note = (
    'An attack that scores near a baseline has learned nothing about the '
    'image. The first table gives medians over all images, and shares of them; '
    'the small figures are 95 % intervals, which take at least six '
    'images. The oracle is no attack: it picks the restart of each case by '
    'looking at the original, and only shows what the attacker’s own choice '
    'cost.'
  )
  if not any(row.get('baselines') for row in run.rows):
    note += ' No baseline was scored in this run.'
  return _section(
    'The numbers',
    tag('p', note, class_='note'),
    tables.summary(run),
    *_cases(run),
    _meanings(run),
  )


def _cases(run: collection.Run) -> list[markup.Html]:
  """Returns a table of every update, or of some of very many."""
  count = len(run.rows)
  if overview.is_large(run):
    return [
      tag('details', tag('summary', title), tables.cases(run, rows))
      for title, rows in overview.ends(run).items()
    ]
  return [
    tag(
      'details',
      tag('summary', f'Every case ({count})'),
      tables.cases(run, run.rows),
      open='' if count <= _OPEN_CASES else None,
    )
  ]


def _meanings(run: collection.Run) -> markup.Html:
  """Returns a sentence for every column of numbers that is shown."""
  metrics = [METRICS[name] for name in tables.shown(run)]
  items = [
    markup.join(
      tag('dt', metric.title),
      tag('dd', metric.meaning, f' {metric.source}.' if metric.source else ''),
    )
    for metric in metrics
  ]
  return tag(
    'details',
    tag('summary', 'What the columns say'),
    tag('dl', *items, class_='saw prose'),
  )


def _curves(run: collection.Run, plots: figures.Figures) -> markup.Html:
  tried = sum(len(collection.array(run, row, 'finite')) for row in run.rows)
  lost = sum(int((~collection.array(run, r, 'finite')).sum()) for r in run.rows)
  text = (
    f'{wording.plural(tried, "restart")} in all; '
    f'{lost or "none"} ended in a value that is not finite'
    f'{", counted as failed and drawn dotted" if lost else ""}. '
  )
  text += (
    f'{wording.plural(len(plots.curves), "update")} of {len(run.rows)} '
    f'{"is" if len(plots.curves) == 1 else "are"} drawn, one line per restart; '
    'the attacker’s choice is in colour, with its last value.'
    if plots.curves
    else 'A closed-form attack takes no steps, so there is no curve.'
  )
  return _section(
    'The attacker’s objective',
    tag('p', text, class_='note'),
    _plots(plots.curves),
  )


def _sweep(run: collection.Run, plots: figures.Figures) -> markup.Html | None:
  if not plots.sweep:
    return None
  names = wording.listing(map(wording.axis_label, collection.swept(run)))
  text = (
    'Each dot is a case, the line is their median, and the dashed line is the '
    'best baseline: where the two meet, the attack does no better than a guess.'
  )
  if overview.is_large(run):
    text = (
      'Each line is a median over the updates at one value, whatever the other '
      'keys are; the band holds half of them. The dashed line is the best '
      'baseline.'
    )
  if study.drawn(run):
    text += ' Diamonds are the figures of the paper.'
  return _section(
    f'Over {names or "the points"}',
    tag('p', text, class_='note'),
    _plots(plots.sweep),
  )


def _study(run: collection.Run) -> markup.Html | None:
  return (
    _section('Beside the paper', *study_section.section(run))
    if study.has(run)
    else None
  )


def _plots(plots: Sequence[figures.Plot]) -> markup.Html | None:
  images = (markup.plot(figure.svg, figure.alt) for figure in plots)
  return tag('div', *images, class_='plots') if plots else None


def _provenance(run: collection.Run) -> markup.Html:
  meta = run.meta
  versions = (meta.get('versions') or {}).items()
  facts = {
    'date': str(meta.get('date', '')),
    'configuration': str(meta.get('hash', '')),
    'device': str(meta.get('device', '')),
    **{name: str(version) for name, version in versions},
  }
  pairs = (
    tag('div', tag('dt', k), tag('dd', v)) for k, v in facts.items() if v
  )
  config = json.dumps(meta['config'], indent=2, ensure_ascii=False)
  return _section(
    'How to repeat it',
    tag('pre', meta['command']) if meta.get('command') else None,
    tag('dl', *pairs, class_='facts'),
    _inputs(meta.get('inputs') or {}),
    tag('h3', 'Experiment card') if meta.get('card') else None,
    tag('pre', str(meta['card']).strip()) if meta.get('card') else None,
    tag(
      'details', tag('summary', 'The whole configuration'), tag('pre', config)
    ),
  )


def _inputs(inputs: Mapping[str, str]) -> markup.Html | None:
  """Returns the files that decide the results, and their hashes."""
  if not inputs:
    return None
  items = [
    tag('tr', tag('td', name), tag('td', f'{digest[:16]}…'))
    for name, digest in inputs.items()
  ]
  return tag(
    'details',
    tag('summary', f'{wording.plural(len(inputs), "file")}, by SHA-256'),
    tag('div', tag('table', tag('tbody', *items)), class_='scroll'),
  )


def _section(title: str, *children: markup.Html | None) -> markup.Html:
  return tag('section', tag('h2', title), *children)


def _values(run: collection.Run, key: str) -> str:
  return wording.listing(row.get(key) for row in run.rows)


def _belief(run: collection.Run) -> str:
  """Returns which client the server assumes, '' if it is the true one."""
  name = _named(run, 'belief')
  return '' if name == 'same' else name


def _auxiliary(run: collection.Run) -> str:
  """Returns what the config says about the auxiliary images, '' for none."""
  entry = run.meta['config'].get('auxiliary') or {}
  words = (entry.get(key) for key in ('name', 'dataset', 'split'))
  return ' '.join(word for word in words if isinstance(word, str) and word)


def _named(run: collection.Run, key: str) -> str:
  """Returns the name of a part of the config, which may have arguments."""
  value = run.meta['config'].get(key)
  parts = value if isinstance(value, list) else [value]
  return wording.listing(
    part.get('name') if isinstance(part, dict) else part for part in parts
  )
