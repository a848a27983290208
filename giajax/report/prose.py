"""The report's sentences: the verdict, and what a setting means for it."""

import collections
from collections.abc import Mapping
import functools
from typing import Any

import numpy as np

from giajax.metrics import success
from giajax.report import values
from giajax.results import collection
from giajax.results import columns
from giajax.results import wording

# Of the objective, from a fifth of the steps to the next, which are the last:
# of all steps, and of those of the highest learning rate, after which lower
# rates still take something off.
_FALL, _STEADY_FALL = 0.05, 0.1
_VERDICTS = {
  'leaks': ('leaks', 'leak'),
  'partial': ('leaks in part', 'leak in part'),
  'resists': ('resisted this attack', 'resisted this attack'),
  'unscored': ('was not scored', 'were not scored'),
  'untested': ('tested nothing', 'tested nothing'),
}


def point_label(run: collection.Run, row: Mapping[str, Any]) -> str:
  """Returns what distinguishes a row's point: 'noise = 0.01', '' if nothing."""
  sweep = row.get('sweep') or {}
  return ', '.join(
    f'{wording.axis_label(key)} = {wording.plain(sweep.get(key))}'
    for key in collection.swept(run)
  )


def rule(run: collection.Run) -> str:
  """Returns when an image, or a row of a table, counts as recognised."""
  if values.are_rows(run):
    return (
      f'Readably: a PSNR of at least {success.LEAK_PSNR:g} dB over columns '
      f'scaled to their range, {success.LEAK_MARGIN:g} dB over every '
      f'baseline of its case. Near this threshold: within '
      f'{success.NEAR_PSNR:g} dB of these values.'
    )
  return (
    f'Recognisably: a PSNR of at least {success.LEAK_PSNR:g} dB, '
    f'{success.LEAK_MARGIN:g} dB over every baseline of its case, and an SSIM '
    f'of at least {success.LEAK_SSIM:g}. Near this threshold: within '
    f'{success.NEAR_PSNR:g} dB of these values and {success.NEAR_SSIM:g} of '
    'the SSIM.'
  )


def verdict(run: collection.Run) -> str:
  """Returns the report in a sentence or two."""
  if not any(map(columns.is_scored, run.rows)):
    return _unscored(run)
  if run.meta.get('source'):  # one update, and several attacks perhaps
    run = run._replace(rows=[collection.worst(run)])
  hits, close, total = _counts(run)
  what = 'row' if values.are_rows(run) else 'image'
  first = _found(what, hits, close, total)
  agree = tone(run) not in ('leaks', 'resists') or (
    (hits > 0) == (tone(run) == 'leaks')
  )
  joint = ':' if agree else ', yet by the medians'
  joint = ', and' if first.startswith('Borderline') else joint
  return ' '.join(
    filter(None, [f'{first}{joint} {_updates(run)}.', labels(run)])
  )


def _found(what: str, hits: int, close: int, total: int) -> str:
  """Returns how many images were recognised, as the beginning of a sentence.

  Args:
    what: 'image', or 'row'.
    hits: the number that was recognised.
    close: the number that nearly was.
    total: the number of all.
  """
  how = 'recognisably' if what == 'image' else 'readably'
  if not hits and close:
    which = f'the {what}' if total == 1 else f'the {what}s'
    near = 'it is' if total == 1 else f'{close} of {total} are'
    return (
      f'Borderline, so look at {which}: {near} near the threshold of '
      'recognition'
    )
  if total == 1:
    return f'The {what} {"came" if hits else "did not come"} back {how}'
  if hits == total:
    return f'All {total} {what}s came back {how}'
  first = f'{hits or "None"} of {total} {what}s came back {how}'
  return f'{first}, and {close} came near the threshold' if close else first


def _unscored(run: collection.Run) -> str:
  if any(row['verdict'] == 'unscored' for row in run.rows):
    return (
      'Nobody knows the images behind this update, so look at what came back.'
    )
  return str(run.rows[0]['reason'])


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
  caveats = [
    *dict.fromkeys(
      str(row['reason'])
      for row in run.rows
      if row['verdict'] == 'unscored' and len(run.rows) == 1
    )
  ]
  unfinished = sum(map(functools.partial(_is_falling, run), run.rows))
  if unfinished:
    caveats.append(
      f'{"The attack is" if len(run.rows) == 1 else "Attacks are"} unfinished: '
      'the objective was still falling at the last step of the full learning '
      'rate'
      + (
        '.' if len(run.rows) == 1 else f' for {unfinished} of {len(run.rows)}.'
      )
      + ' More steps may find more.'
    )
  if any(row['setting'] == 'diagnostic' for row in run.rows):
    something = hits or close or verdicts & {'leaks', 'partial'}
    something = something and not unfinished
    caveats.append(
      'The setting is diagnostic, so what came back is an upper bound on what '
      'this attack finds in a deployed system.'
      if something
      else 'The setting is diagnostic: it makes the attack easier than a '
      'deployed system does.'
    )
  if 'resists' in verdicts:
    caveats.append('Resisting this attack is no proof against a stronger one.')
  if any(map(_is_faint, run.rows)):
    caveats.append(
      'Updates that resist here hardly differ from those of noise; under other '
      'weights they may give away more.'
    )
  causes = dict.fromkeys(
    row['degenerate'] for row in run.rows if row['verdict'] == 'untested'
  )
  if causes:
    caveats.append(
      f'Nothing was tested where {"; or ".join(causes)}: such an update says '
      'nothing about the system that usually sends others.'
    )
  return caveats


def _is_faint(row: Mapping[str, Any]) -> bool:
  """Returns whether an update resists that hardly differs from noise."""
  share = wording.number(row.get('image_share'))
  return row['verdict'] == 'resists' and success.is_faint(share)


def _is_falling(run: collection.Run, row: Mapping[str, Any]) -> bool:
  """Returns whether the attack's objective was falling when it had to stop.

  That is at the last step, or where the learning rate was about to fall from
  its highest value: whatever is found then, lower rates flatten the curve. A
  rate that falls from the first step on leaves no curve that could be judged,
  and a curve that is flat does not show that no further step would help.
  """
  trace = collection.array(run, row, 'trace')
  values = trace[int(collection.array(run, row, 'chosen'))]
  if _falls(values, _FALL):
    return True
  own = (run.meta.get('steady') or {}).get(str(row['cohort']))
  if own is None or own['end'] >= 1:
    return False
  shares = collection.array(run, row, 'trace_step') / max(1, row['steps'])
  high = (shares > own['begin']) & (shares <= own['end'])
  return _falls(values[high], _STEADY_FALL)


def _falls(values: np.ndarray, fall: float) -> bool:
  """Returns whether the last fifth is lower than the one before it.

  Its median is, by a part of the objective, and all of its values are, so that
  noise is not taken for it.
  """
  fifth = max(1, len(values) // 5)
  before, last = values[-2 * fifth : -fifth], values[-fifth:]
  if not len(before) or not np.isfinite([*before, *last]).all():
    return False
  middle = np.median(before)
  lower = middle - np.median(last) > fall * abs(middle)
  return bool(lower and last.max() < before.min())


def tone(run: collection.Run) -> str:
  """Returns the gravest verdict of the run, for its colour."""
  verdicts = [str(row['verdict']) for row in run.rows]
  return next((v for v in _VERDICTS if v in verdicts), 'unknown')


def _counts(run: collection.Run) -> tuple[int, int, int]:
  """Returns how many images were recognised, how many nearly, and all."""
  rows = [*filter(columns.is_scored, run.rows)]
  hits = [collection.recognised(run, row) for row in rows]
  close = [collection.near(run, row) for row in rows]
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
