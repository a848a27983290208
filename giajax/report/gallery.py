"""The report's gallery: a sample of images, and what became of them."""

from collections.abc import Sequence

import numpy as np

from giajax.report import captions
from giajax.report import markup
from giajax.report import prose
from giajax.report import values
from giajax.results import collection
from giajax.results import columns
from giajax.results import wording

tag = markup.tag
_FOUND, _START = {'x_hat': 'recovered'}, {'x_start': 'start'}
_KNOWN = {'x': 'original', **_FOUND, **_START}
# What was made without the update, where it was compared with that.
GUESSES = {
  'x_noise_gradient': 'from noise',
  'x_class_sample': 'random sample',
  'x_nearest_auxiliary': 'nearest auxiliary',
}
_NOTES = {
  'x_noise_gradient': 'The picture from noise is what the same attack made of '
  'an update of noise, of the same norm in every array.',
  'x_class_sample': 'The random sample is what the generator makes without '
  'the update.',
  'x_nearest_auxiliary': 'The nearest auxiliary image is the closest of those '
  'that were known before; only somebody who knows the original can choose it.',
}


def gallery(
  run: collection.Run, samples: Sequence[collection.Sample]
) -> markup.Html:
  """Returns originals next to recoveries and the attack's starts."""
  total = sum(collection.count(run, row) for row in run.rows)
  which = (
    f'{len(samples)} of {total} images, drawn with the fixed seed '
    f'{collection.SAMPLE_SEED} before any metric was looked at: a sample, not '
    'the best.'
  )
  if len(samples) == total:
    which = f'All {total} images of the run.' if total > 1 else 'The one image.'
  if run.meta.get('source'):  # one update, by one attack or by several
    which = f'What the attack{"" if len(run.rows) == 1 else "s"} found.'
  note = (
    f'{which} The restart shown is the one that the attacker would pick by its '
    'own objective. The small picture is where the attack started.'
  )
  notes = [_NOTES[name] for name in guesses(run, samples)]
  note = ' '.join([note, *notes, *_about_inputs(run)])
  groups: dict[str, list[collection.Sample]] = {}
  for item in samples:
    groups.setdefault(prose.point_label(run, item.row), []).append(item)
  if all(len(items) == 1 for items in groups.values()):
    parts = [_grid(run, samples, named=True)]
  else:
    parts = [
      markup.join(tag('h3', label) if label else None, _grid(run, items))
      for label, items in groups.items()
    ]
  return markup.join(tag('p', note, class_='note'), *parts)


def _about_inputs(run: collection.Run) -> list[str]:
  """Returns what to know about inputs that are no grey or coloured images."""
  if values.are_rows(run):
    return [
      'The inputs are rows of a table, in the units of the client: where this '
      'page says image, read row. They have no structure, so that PSNR alone '
      'decides, over columns that are scaled to their range.'
    ]
  channels = collection.array(run, run.rows[0], 'x_hat').shape[-1]
  if channels in (1, 3):
    return []
  shown = 'the first three' if channels > 3 else 'the mean'
  return [f'Pictures show {shown} of {channels} channels.']


def guesses(
  run: collection.Run, samples: Sequence[collection.Sample]
) -> dict[str, str]:
  """Returns the labels of the guesses that some of the samples have."""
  return {
    name: label
    for name, label in GUESSES.items()
    if any(collection.has(run, item.row, name) for item in samples)
  }


def _grid(
  run: collection.Run, items: Sequence[collection.Sample], named: bool = False
) -> markup.Html:
  cards = []
  for item in items:
    label = prose.point_label(run, item.row) if named else ''
    heading = tag('h3', label) if label else None
    cards.append(tag('figure', heading, *_card(run, item)))
  return tag('div', *cards, class_='gallery')


def _card(run: collection.Run, item: collection.Sample) -> list[markup.Html]:
  known = collection.has(run, item.row, 'x')
  beside = guesses(run, [item])
  pictures = _KNOWN | beside if known else {**_FOUND, **beside, **_START}
  shown = _rows if values.are_rows(run) else _trio
  caption = tag('figcaption', *_caption(run, item, known))
  return [shown(run, item, pictures), caption]


def _is_redacted(item, pictures) -> bool:
  """Returns whether the original is known and must not be shown."""
  return columns.is_scored(item.row) and 'x' not in pictures


def _rows(run, item, pictures) -> markup.Html:
  """Returns the values of a row of a table, or none where they are redacted."""
  if _is_redacted(item, pictures):
    return tag('p', 'The values are left out.', class_='label')
  return values.table(run, item, pictures)


def _trio(run, item, pictures) -> markup.Html:
  """Returns pictures beside each other."""
  images, redacted = [], _is_redacted(item, pictures)
  for name, label in pictures.items():
    image = collection.array(run, item.row, name)[item.index]
    alt = f'{label}, case {item.row["case"]}, image {item.index}'
    lost = '' if np.isfinite(image).all() else ' (not finite)'
    shown = markup.picture(image, alt)
    boxes = None if redacted else captions.boxes(run, item, name)
    if boxes is not None and len(boxes):
      shown = markup.boxed(shown, boxes)
    images.append(tag('div', tag('span', label + lost, class_='label'), shown))
  return tag('div', *images, class_='trio')


def _caption(run, item, known) -> list[markup.Html]:
  """Returns the lines under a sample."""
  verdict = str(item.row['verdict'])
  said = captions.compared if known and columns.is_scored(item.row) else None
  said = said or captions.claimed  # redacted, or unknown
  about = tag('span', said(run, item), class_='label')
  text = f'case {item.row["case"]}, {verdict}'
  if columns.is_scored(item.row):
    psnr, ssim = (
      collection.array(run, item.row, name)[item.index]
      for name in ('psnr', 'ssim')
    )
    text += f': PSNR {wording.figure(psnr, 1)} dB'
    if not values.are_rows(run):
      text += f' · SSIM {wording.figure(ssim)}'
  return [markup.join(text), tag('br'), about]
