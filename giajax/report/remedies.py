"""The end of the page: what was found, what it means, and what to change.

A finding is read off the rows; its remedy and what that costs are general. What
a change does to this system is measured by `giajax advise`.
"""

from collections.abc import Callable, Mapping, Sequence
import shlex
from typing import Any, NamedTuple

from giajax.report import markup
from giajax.results import collection
from giajax.results import wording

tag = markup.tag
Rows = Sequence[Mapping[str, Any]]


class Finding(NamedTuple):
  """Something that a run shows about the audited system.

  Attributes:
    severity: 'high', 'medium' or 'low'.
    applies: whether rows show it.
    meaning: what it means, in a sentence.
    remedy: what to change.
    cost: what that costs.
  """

  severity: str
  applies: Callable[[Rows], bool]
  meaning: str
  remedy: str
  cost: str


def _verdict(word: str) -> Callable[[Rows], bool]:
  return lambda rows: any(row['verdict'] == word for row in rows)


def _reason(word: str) -> Callable[[Rows], bool]:
  return lambda rows: any(word in row['setting_reasons'] for row in rows)


def _labels(rows: Rows) -> bool:
  return any(
    wording.number(row.get('labels_recovered')) == 1
    and not row.get('labels_granted')
    for row in rows
  )


# Guo et al. (TPAMI 2025) order the remedies: network, protocol, validation.
FINDINGS: dict[str, Finding] = {
  'images are recognisable': Finding(
    'high',
    _verdict('leaks'),
    'Whoever receives such an update can look at the client’s images.',
    'Let the server see sums only (secure aggregation), or clip and add noise '
    'on the client until a run of this audit resists.',
    'Aggregation costs communication; noise costs accuracy.',
  ),
  'images come back in part': Finding(
    'medium',
    _verdict('partial'),
    'Shapes or colours of the client’s images are in the update, and a longer '
    'or better attack may find more.',
    'Average over more images and more local steps before sending.',
    'More memory or time on the client; convergence may change.',
  ),
  'nobody scored what came back': Finding(
    'medium',
    _verdict('unscored'),
    'The images are not known here, so only a person can tell what is in them.',
    'Let a client of your own send an update of images that you have, and '
    'audit that with --truth.',
    'One round of a test client.',
  ),
  'labels are in the update': Finding(
    'medium',
    _labels,
    'The gradient of the last layer says which classes a client has.',
    'Send sums over several clients, or do not train the last layer.',
    'Aggregation costs communication; a frozen layer may cost accuracy.',
  ),
  'batch of one image': Finding(
    'medium',
    _reason('batch of one image'),
    'Nothing hides one image among others.',
    'Refuse to send updates of fewer than a batch of images.',
    'Clients with little data wait, or do not take part.',
  ),
  'inference-mode client': Finding(
    'low',
    _reason('inference-mode client'),
    'Stored statistics let the attacker treat each image by itself.',
    'Train with BatchNorm in training mode, and do not send its buffers.',
    'Nothing: it is how networks are usually trained.',
  ),
  'untrained weights': Finding(
    'low',
    _reason('untrained weights'),
    'Fresh weights answer each image with a gradient of its own.',
    'Start from weights that were trained on public data.',
    'Such data have to exist.',
  ),
}


def section(run: collection.Run, advised: bool) -> markup.Html:
  """Returns a table of findings, and the command that measures changes.

  Args:
    run: the run.
    advised: whether `giajax advise` has measured them.
  """
  found = [(n, f) for n, f in FINDINGS.items() if f.applies(run.rows)]
  cells = [
    tag('tr', *(tag('td', text) for text in (name, *finding[:1], *finding[2:])))
    for name, finding in found
  ]
  titles = ('finding', 'severity', 'what it means', 'remedy', 'cost')
  head = tag('tr', *(tag('th', title) for title in titles))
  table = tag('table', tag('thead', head), tag('tbody', *cells), class_='wide')
  return markup.join(
    tag('div', table, class_='scroll')
    if found
    else tag('p', 'This run found nothing that asks for a change.'),
    _command(run, advised),
  )


def _command(run: collection.Run, advised: bool) -> markup.Html | None:
  """Returns how to find out what a change does."""
  if advised:
    return tag('p', 'What changes do to this system is measured above.')
  if run.meta.get('source'):
    return tag(
      'p',
      'What a change does is measured on clients that are played: describe '
      'yours in a config (giajax init) and run giajax advise on its results.',
    )
  config = run.meta['config'].get('sweep')
  text = 'What each change does to this system, and what it costs:'
  point = ' --point=0' if config else ''
  folder = _workdir(str(run.meta.get('command') or ''))
  return markup.join(
    tag('p', text), tag('pre', f'giajax advise {folder}{point}')
  )


def _workdir(command: str) -> str:
  """Returns the workdir of a command, 'WORKDIR' where it has none."""
  try:
    words = shlex.split(command)
  except ValueError:
    return 'WORKDIR'
  named = [w.partition('=')[2] for w in words if w.startswith('--workdir=')]
  return shlex.quote(named[0]) if named else 'WORKDIR'
