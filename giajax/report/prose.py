"""The report's sentences: the verdict, and what a setting means for it."""

import collections
from collections.abc import Mapping
from typing import Any

from giajax.metrics import success
from giajax.results import collection
from giajax.results import wording

_VERDICTS = {
  'leaks': ('leaks', 'leak'),
  'partial': ('leaks in part', 'leak in part'),
  'resists': ('resisted this attack', 'resisted this attack'),
  'untested': ('tested nothing', 'tested nothing'),
}


def point_label(run: collection.Run, row: Mapping[str, Any]) -> str:
  """Returns what distinguishes a row's point: 'noise = 0.01', '' if nothing."""
  sweep = row.get('sweep') or {}
  return ', '.join(
    f'{wording.axis_label(key)} = {wording.plain(sweep.get(key))}'
    for key in collection.swept(run)
  )


def rule() -> str:
  """Returns when an image counts as recognised."""
  return (
    f'Recognisably: a PSNR of at least {success.LEAK_PSNR:g} dB, '
    f'{success.LEAK_MARGIN:g} dB over every baseline of its case, and an SSIM '
    f'of at least {success.LEAK_SSIM:g}. Near this threshold: within '
    f'{success.NEAR_PSNR:g} dB of these values and {success.NEAR_SSIM:g} of '
    'the SSIM.'
  )


def verdict(run: collection.Run) -> str:
  """Returns the report in a sentence or two."""
  hits, close, total = _counts(run)
  if total == 1:
    came = 'came back' if hits else 'did not come back'
    first = f'The image {came} recognisably'
  elif hits == total:
    first = f'All {total} images came back recognisably'
  else:
    first = f'{hits or "None"} of {total} images came back recognisably'
  if close and total == 1:
    first += ' by the threshold, but came near it'
  elif close:
    first += f', and {close} came near the threshold'
  agree = tone(run) not in ('leaks', 'resists') or (
    (hits > 0) == (tone(run) == 'leaks')
  )
  joint = ':' if agree else ', yet by the medians'
  return ' '.join(
    filter(None, [f'{first}{joint} {_updates(run)}.', labels(run)])
  )


def labels(run: collection.Run) -> str:
  """Returns what the run learned about labels, '' if nothing sure."""
  rows = [row for row in run.rows if not row.get('labels_granted')]
  every = [r for r in rows if wording.number(r.get('labels_recovered')) == 1]
  if not every:
    return ''
  if len(every) < len(run.rows):
    return (
      f'Every label was recovered from {len(every)} of '
      f'{wording.plural(len(run.rows), "update")}.'
    )
  if all(row['batch_size'] == 1 for row in every):
    return (
      'The label was recovered.'
      if len(every) == 1
      else 'Every label was recovered.'
    )
  batches = 'the batch' if len(every) == 1 else 'all batches'
  return f'Every label of {batches} was recovered.'


def caveats(run: collection.Run) -> list[str]:
  """Returns what the headline does not say, in sentences."""
  hits, close, _ = _counts(run)
  verdicts = {str(row['verdict']) for row in run.rows}
  caveats = []
  if any(row['setting'] == 'diagnostic' for row in run.rows):
    something = hits or close or verdicts & {'leaks', 'partial'}
    caveats.append(
      'The setting is diagnostic, so what came back is an upper bound on what '
      'this attack finds in a deployed system.'
      if something
      else 'The setting is diagnostic: it makes the attack easier than a '
      'deployed system does.'
    )
  if 'resists' in verdicts:
    caveats.append('Resisting this attack is no proof against a stronger one.')
  causes = dict.fromkeys(
    row['degenerate'] for row in run.rows if row['verdict'] == 'untested'
  )
  if causes:
    caveats.append(
      f'Nothing was tested where {"; or ".join(causes)}: such an update says '
      'nothing about the system that usually sends others.'
    )
  return caveats


def tone(run: collection.Run) -> str:
  """Returns the gravest verdict of the run, for its colour."""
  verdicts = [str(row['verdict']) for row in run.rows]
  return next((v for v in _VERDICTS if v in verdicts), 'unknown')


def _counts(run: collection.Run) -> tuple[int, int, int]:
  """Returns how many images were recognised, how many nearly, and all."""
  hits = [collection.recognised(run, row) for row in run.rows]
  close = [collection.near(run, row) for row in run.rows]
  return (
    sum(int(h.sum()) for h in hits),
    sum(int(c.sum()) for c in close),
    sum(len(h) for h in hits),
  )


def _updates(run: collection.Run) -> str:
  counts = collections.Counter(str(row['verdict']) for row in run.rows)
  ordered = [v for v in _VERDICTS if v in counts]
  ordered += [v for v in counts if v not in _VERDICTS]
  words = {v: _VERDICTS.get(v, (v, v)) for v in ordered}
  if len(ordered) == 1:
    one, many = words[ordered[0]]
    updates = f'these {len(run.rows)} updates {many}'
    return f'this update {one}' if len(run.rows) == 1 else updates
  parts = [f'{counts[v]} {words[v][counts[v] > 1]}' for v in ordered]
  return f'of {len(run.rows)} updates, {", ".join(parts)}'
