"""The report's gallery: a sample of images, and what became of them."""

from collections.abc import Sequence

import numpy as np

from giajax.report import markup
from giajax.report import prose
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
  total = sum(len(collection.array(run, row, 'y_hat')) for row in run.rows)
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
  note = ' '.join([note, *(_NOTES[name] for name in guesses(run, samples))])
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
  images = []
  known = collection.has(run, item.row, 'x')
  beside = guesses(run, [item])
  pictures = _KNOWN | beside if known else {**_FOUND, **beside, **_START}
  for name, label in pictures.items():
    image = collection.array(run, item.row, name)[item.index]
    alt = f'{label}, case {item.row["case"]}, image {item.index}'
    lost = '' if np.isfinite(image).all() else ' (not finite)'
    images.append(
      tag(
        'div',
        tag('span', label + lost, class_='label'),
        markup.picture(image, alt),
      )
    )
  verdict = str(item.row['verdict'])
  trio = tag('div', *images, class_='trio')
  if not columns.is_scored(item.row):
    label = f'case {item.row["case"]}, {verdict}'
    return [trio, tag('figcaption', label, tag('br'), _claimed(run, item))]
  psnr, ssim = (
    collection.array(run, item.row, name)[item.index]
    for name in ('psnr', 'ssim')
  )
  text = (
    f'case {item.row["case"]}, {verdict}: PSNR {wording.figure(psnr, 1)} dB · '
    f'SSIM {wording.figure(ssim)}'
  )
  caption = tag('figcaption', text, tag('br'), _labels(run, item))
  return [trio, caption]


def _claimed(run: collection.Run, item: collection.Sample) -> markup.Html:
  """Returns the label that the attack claims for an image."""
  guess = int(collection.array(run, item.row, 'y_hat')[item.index])
  word = _word(run, guess)
  text = 'no label claimed' if guess < 0 else f'the attack says: {word}'
  return tag('span', text, class_='label')


def _word(run: collection.Run, label: int) -> str:
  names = run.meta.get('class_names') or []
  return str(names[label]) if 0 <= label < len(names) else f'class {label}'


def _labels(run: collection.Run, item: collection.Sample) -> markup.Html:
  if not collection.has(run, item.row, 'x'):  # redacted
    return _claimed(run, item)
  true, guess = (
    int(collection.array(run, item.row, k)[item.index]) for k in ('y', 'y_hat')
  )
  words = [_word(run, label) for label in (true, guess)]
  if guess < 0:
    return tag('span', f'{words[0]}, no label claimed', class_='label')
  text = words[0] if true == guess else f'{words[0]}, taken for {words[1]}'
  return tag('span', text, class_='label')
