"""Generators that a config names, with the weights in their files."""

from collections.abc import Mapping, Sequence
import itertools
import logging
from typing import Any

from giajax import world as worlds
from giajax.data import base as data
from giajax.engine import factories
from giajax.engine import identity
from giajax.engine import schema
from giajax.generative import base as generative
from giajax.generative import GENERATORS
from giajax.learners import inversion
from giajax.models import base as models
from giajax.models import inspect

# What says where the weights are, beside the arguments of the row.
_FILE = {'path': str, 'prefix': str, 'rename': Mapping[str, str]}
_KIND = 'attack.generator'
_log = logging.getLogger('giajax')


def trained(
  entry: Any, world: worlds.World, lowering: str = 'auto'
) -> generative.Trained:
  """Returns the trained generator of an attack's entry.

  Args:
    entry: a name in `GENERATORS`, arguments of that row, and of its file the
      path, and prefix and rename as in `convert.load`.
    world: the attacker's picture of the system.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: an unknown name or argument, a value out of range, or a file
      that is missing, damaged or of another generator.
  """
  generator, file = _split(entry, world, lowering)
  if not file.get('path'):
    raise ValueError(
      f'Expected {_KIND}.path, the file of its weights; got {_KIND}={entry}; '
      'set it'
    )
  return generative.load(generator=generator, **file)


def check(
  trained: generative.Trained,
  victim: Mapping[str, Any],
  dataset: data.Dataset,
  auxiliary: data.Dataset | None,
) -> None:
  """Checks what the file of a generator says about its training.

  Args:
    trained: the generator.
    victim: what a network that inverts updates has to be trained for.
    dataset: the images of the audit.
    auxiliary: the images that it learned from, if they were named.

  Raises:
    ValueError: a network that inverts updates of another client, of other
      weights or of batches of another size, or without a record of its
      training; one that learned from other images than was said; or one that
      takes labels and learned other classes.
  """
  record, name = trained.record, trained.generator.spec.name
  if name in inversion.READERS:
    own = record.get('victim')
    if not isinstance(own, Mapping):
      raise ValueError(
        f'Expected a record of its training in the file of {name}; got none; '
        'train it by giajax train --part=generator'
      )
    for key, value in victim.items():
      if own.get(key) != value:
        advice = 'train it by giajax train --part=generator with this config'
        if key == 'weights':  # a seed's differ from machine to machine
          advice += ', or name their file in weights.path for both'
        raise ValueError(
          f'Expected a network that was trained to invert updates with {key}='
          f'{value!r}; got one of {key}={own.get(key)!r}; {advice}'
        )
  if auxiliary is not None:
    check_classes(trained.generator, auxiliary, dataset)
  if 'images' not in record:
    return
  if auxiliary is None:
    _log.info('%s learned from images that auxiliary does not name', name)
  elif not learned_from(trained, auxiliary):
    raise ValueError(
      f'Expected the images that {name} learned from in auxiliary, '
      f'{record["images"]!r}; got {identity.facts(auxiliary)!r}; correct it'
    )


def check_classes(
  generator: generative.Generator, taught: data.Dataset, dataset: data.Dataset
) -> None:
  """Checks that labels mean the same to a generator that takes them.

  Args:
    generator: the generator.
    taught: the images that it learns from.
    dataset: the images of the audit.

  Raises:
    ValueError: their classes have other names, or are in another order.
  """
  both = taught.class_names, dataset.class_names
  numbered = any(names == (*map(str, range(len(names))),) for names in both)
  alike = numbered and len(both[0]) == len(both[1])
  if generator.takes_labels and not alike and both[0] != both[1]:
    name = generator.spec.name
    raise ValueError(
      f'Expected the classes of the audit for {name}, which takes labels; got '
      f'{_first(*both)}; use a generator without labels, or other images'
    )


def learned_from(trained: generative.Trained, dataset: data.Dataset) -> bool:
  """Returns whether a generator's record names the images of a data set."""
  images = trained.record.get('images')
  if not isinstance(images, Mapping):
    return False
  # Its name may be that of a folder.
  return {**identity.facts(dataset), 'name': ''} == {**images, 'name': ''}


def _first(names: Sequence[str], others: Sequence[str]) -> str:
  """Returns where two lists of classes differ first."""
  pairs = itertools.zip_longest(names, others)
  index, (name, other) = next(
    (i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1]
  )
  return f'{name!r} in the place of {other!r} as class {index}'


def untrained(
  entry: Any, world: worlds.World, lowering: str = 'auto'
) -> generative.Generator:
  """Returns the generator of an attack's entry, whose file is not read.

  Args:
    entry: as for `trained`, like `world` and `lowering`; the path may be
      missing.
    world: the attacker's picture of the system.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: an unknown name or argument, or a value out of range.
  """
  return _split(entry, world, lowering)[0]


def _split(
  entry: Any, world: worlds.World, lowering: str
) -> tuple[generative.Generator, dict[str, Any]]:
  """Returns the generator of an entry, and what it says about the file."""
  entry = schema.check_argument(entry, dict, _KIND)
  spec = world.net.spec
  taken = factories.parameters(GENERATORS, entry, _KIND)
  # What inversion networks read; not every network has a classifier.
  measured = {
    'entries': lambda: models.count(inspect.abstract_variables(world.net)),
    'features': lambda: inspect.num_features(world.net),
  }
  parts = {
    'image_shape': spec.image_shape,
    'num_classes': spec.num_classes,
    'batch_size': world.batch_size,
    'lowering': lowering,
    **{name: make() for name, make in measured.items() if name in taken},
  }
  names = {*taken, *_FILE} - {*parts}
  for name in entry.keys() - {'name'}:
    schema.require_known(name, names, f'{_KIND} ({entry["name"]})')
  file = {
    name: schema.check_argument(entry[name], annotation, f'{_KIND}.{name}')
    for name, annotation in _FILE.items()
    if name in entry
  }
  own = {name: value for name, value in entry.items() if name not in _FILE}
  return factories.make(GENERATORS, own, _KIND, **parts), file
