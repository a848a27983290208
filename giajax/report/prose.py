"""The report's words: numbers as text, the verdict, what a setting means."""

import collections
from collections.abc import Iterable, Mapping
import math
import re
from typing import Any, NamedTuple

import numpy as np

from giajax.metrics import success
from giajax.results import collection

LEVELS = {
  'A': 'Eavesdropper: what server and client exchange, no more',
  'B': 'Informed: basic knowledge of the training as well',
  'C': 'Parameter-aware: the details of the training as well',
  'D': 'Data-enhanced: surrogate data as well',
  'E': 'Statistical-informed: statistics of the client’s data as well',
  'F': 'Active manipulator: may alter what is sent to the client',
  'G': 'Active manipulator with surrogate data',
  'H': 'Active manipulator that also selects the clients',
}

BASELINES = {
  'mean_image': 'Mean image of the data set',
  'other_image': 'Another image of the data set',
  'grey_image': 'An image of even grey',
  'start': 'Where the attack started',
  'noise_gradient': 'The same attack on a noise gradient',
}


class Metric(NamedTuple):
  """A column of numbers, in words."""

  label: str
  form: str  # a format specification
  meaning: str  # one or two sentences


METRICS = {
  'psnr': Metric(
    'PSNR (dB)',
    '.2f',
    'Squared error of the pixels on a logarithmic scale: higher is closer, '
    'three decibels more are half the error.',
  ),
  'ssim': Metric(
    'SSIM',
    '.3f',
    'Likeness of local brightness, contrast and structure, 1 for equal images '
    '(Wang et al., 2004).',
  ),
  'cw_ssim': Metric(
    'CW-SSIM',
    '.3f',
    'Likeness of complex wavelets, 1 for equal images, which small shifts '
    'hardly change and even tones do not enter. Some studies report it as '
    'SSIM: compare theirs with this column, on [0, 1].',
  ),
  'lpips': Metric(
    'LPIPS',
    '.3f',
    'Distance of the features of a trained network, weighted by human '
    'judgement: lower is closer (Zhang et al., 2018).',
  ),
  'mse': Metric('MSE', '.3g', 'Mean squared error of the pixels in [0, 1].'),
  'fmse': Metric(
    'FMSE',
    '.2g',
    'Mean squared error of what the classifier of the audited network reads: '
    'lower is closer, among results of one network and its weights.',
  ),
  'iip': Metric(
    'IIP',
    '.0%',
    'Share of reconstructions that the audited network finds closer to their '
    'own image than to any of up to 15 others of its class (Yin et al., 2021).',
  ),
  'exact': Metric(
    'exact',
    '.1%',
    'Share of the images that came back up to rounding: at '
    f'{success.EXACT_PSNR:g} dB or more.',
  ),
  'rdlv': Metric(
    'RDLV',
    '.2f',
    'What SSIM gains over the mean image of the data set, as a multiple of '
    'that image’s own SSIM: 0 is no gain (Hatamizadeh et al., 2023).',
  ),
}

# Why a reason makes the result an upper bound: by a pattern in the reason.
REASONS = {
  'inference': (
    'Layers such as BatchNorm used stored statistics, which the attacker can '
    'repeat. A client that trains normalises by its own batch, which couples '
    'the images and makes the inversion much harder.'
  ),
  r'batch (of |size )?(1|one)\b|single image': (
    'One image stood behind the update. Clients average the gradients of '
    'many, and each further image makes the inversion harder.'
  ),
  'label': (
    'The attacker was handed the labels. Outside, it has to infer them from '
    'the update, and can be wrong.'
  ),
  'known images': (
    'The attack started from the images themselves, in part. What it ends '
    'with shows what a start tells, not what an update does.'
  ),
  'altered weights': (
    'The server sent weights that it had made up, which a client that checks '
    'what it receives may refuse.'
  ),
  'several rounds': (
    'The client worked on the same batch in every round, which one that draws '
    'its batches does not.'
  ),
  'architecture': (
    'The network was changed in a way that helps the attack. Stock '
    'architectures give away less.'
  ),
  'untrained|random weights': (
    'The weights were random. A model that has been trained for a while '
    'sends gradients that say less about single images.'
  ),
}

_VERDICTS = {
  'leaks': ('leaks', 'leak'),
  'partial': ('leaks in part', 'leak in part'),
  'resists': ('resisted this attack', 'resisted this attack'),
}


def figure(value: Any, digits: int = 2) -> str:
  """Returns a number as text: '21.40', '−3.00', '∞', or '–' for NaN."""
  value = collection.number(value)
  if math.isnan(value):
    return '–'
  if math.isinf(value):
    return '∞' if value > 0 else '−∞'
  return f'{value:.{digits}f}'.replace('-', '−')


def significant(value: Any) -> str:
  """Returns a number of unknown size as text, to three digits."""
  value = collection.number(value)
  if not math.isfinite(value):
    return figure(value)
  return f'{value:.3g}'.replace('-', '−')


def share(value: Any) -> str:
  """Returns a fraction as text: '75%', or '–' for NaN."""
  value = collection.number(value)
  return f'{value:.0%}' if math.isfinite(value) else '–'


def score(metric: str, value: Any) -> str:
  """Returns a value of a metric of `METRICS` as text."""
  value = collection.number(value)
  if not math.isfinite(value):
    return figure(value)
  return f'{value:{METRICS[metric].form}}'.replace('-', '−')


def plain(value: Any) -> str:
  """Returns a value of a sweep as text: '0.001', 'resnet18', 'fedavg: ...'."""
  if isinstance(value, float):
    return f'{value:g}'
  if isinstance(value, dict) and 'name' in value:
    rest = [f'{k} {plain(v)}' for k, v in value.items() if k != 'name']
    return f'{value["name"]}: {", ".join(rest)}' if rest else value['name']
  text = str(value)
  return text if len(text) <= 40 else f'{text[:39]}…'


def plural(count: int, noun: str, nouns: str | None = None) -> str:
  """Returns '1 image', '8 images'."""
  return f'{count} {noun if count == 1 else nouns or noun + "s"}'


def listing(values: Iterable[Any]) -> str:
  """Returns the distinct values, in order: 'resnet18, vit_b'."""
  return ', '.join(dict.fromkeys(str(v) for v in values if v is not None))


def point_label(run: collection.Run, row: Mapping[str, Any]) -> str:
  """Returns what sets a row's point apart: 'noise = 0.01', '' if nothing."""
  sweep = row.get('sweep') or {}
  return ', '.join(
    f'{axis_label(key)} = {plain(sweep.get(key))}'
    for key in collection.swept(run)
  )


def axis_label(key: str) -> str:
  """Returns a sweep's key without its prefix."""
  return key.removeprefix('config.')


def recognised(run: collection.Run, row: Mapping[str, Any]) -> np.ndarray:
  """Returns [B] bool: the images of a row that came back recognisably."""
  if collection.has(run, row, 'recognised'):
    return collection.array(run, row, 'recognised').astype(bool)
  floor = collection.best_baseline(row, 'psnr')
  psnr, ssim = (collection.array(run, row, name) for name in ('psnr', 'ssim'))
  close = (psnr >= success.LEAK_PSNR) & (ssim >= success.LEAK_SSIM)
  return (
    close
    if math.isnan(floor)
    else close & (psnr >= floor + success.LEAK_MARGIN)
  )


def rule(run: collection.Run) -> str:
  """Returns when an image counts as recognised."""
  if all(collection.has(run, row, 'recognised') for row in run.rows):
    return 'Recognisably: by the success rule of the run.'
  return (
    f'Recognisably: a PSNR of at least {success.LEAK_PSNR:g} dB, '
    f'{success.LEAK_MARGIN:g} dB over every baseline of its case, and an SSIM '
    f'of at least {success.LEAK_SSIM:g}.'
  )


def verdict(run: collection.Run) -> str:
  """Returns the report in one sentence."""
  counts = [recognised(run, row) for row in run.rows]
  hits, total = sum(int(c.sum()) for c in counts), sum(len(c) for c in counts)
  if hits == 0:
    images = 'The image did not come back' if total == 1 else 'No image of '
    first = images if total == 1 else f'{images}{total} came back'
  elif hits == total:
    first = 'The image' if total == 1 else f'All {total} images'
    first += ' came back'
  else:
    first = f'{hits} of {total} images came back'
  agree = tone(run) not in ('leaks', 'resists') or (
    (hits > 0) == (tone(run) == 'leaks')
  )
  joint = ':' if agree else ', yet by the run’s own rule'
  return f'{first} recognisably{joint} {_updates(run)}.'


def tone(run: collection.Run) -> str:
  """Returns the gravest verdict of the run, for its colour."""
  verdicts = [str(row['verdict']) for row in run.rows]
  return next((v for v in _VERDICTS if v in verdicts), 'unknown')


def explain(reason: str) -> str:
  """Returns why a reason makes a result an upper bound, '' if unknown."""
  matches = (
    text
    for pattern, text in REASONS.items()
    if re.search(pattern, reason, re.IGNORECASE)
  )
  return next(matches, '')


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
