"""Generators that a config names, with the weights in their files."""

from collections.abc import Mapping
from typing import Any

from giajax.engine import factories
from giajax.engine import schema
from giajax.generative import base as generative
from giajax.generative import GENERATORS
from giajax.models import base as models

# What says where the weights are, beside the arguments of the row.
_FILE = {'path': str, 'prefix': str, 'rename': Mapping[str, str]}


def trained(
  entry: Any, spec: models.Spec, lowering: str = 'auto'
) -> generative.Trained:
  """Returns the trained generator of an attack's entry.

  Args:
    entry: a name in `GENERATORS`, arguments of that row, and of its file the
      path, and prefix and rename as in `convert.load`.
    spec: of the network, for the images and the classes.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: an unknown name or argument, a value out of range, or a file
      that is missing, damaged or of another generator.
  """
  kind = 'attack.generator'
  entry = schema.check_argument(entry, dict, kind)
  parts = {
    'image_shape': spec.image_shape,
    'num_classes': spec.num_classes,
    'lowering': lowering,
  }
  names = {*factories.parameters(GENERATORS, entry, kind), *_FILE} - {*parts}
  for name in entry.keys() - {'name'}:
    schema.require_known(name, names, f'{kind} ({entry["name"]})')
  file = {
    name: schema.check_argument(entry[name], annotation, f'{kind}.{name}')
    for name, annotation in _FILE.items()
    if name in entry
  }
  if not file.get('path'):
    raise ValueError(
      f'Expected {kind}.path, the file of its weights; got {kind}={entry}; set '
      'it'
    )
  own = {name: value for name, value in entry.items() if name not in _FILE}
  return generative.load(
    generator=factories.make(GENERATORS, own, kind, **parts), **file
  )
