"""What every argument of every row promises: a value fits, or is refused."""

import functools
import inspect

from contracts import attack_setups
from contracts import methods_test
import jax
import pytest

from giajax import world as worlds
from giajax.clients import aggregate
from giajax.clients import fedsgd
from giajax.engine import factories
from giajax.engine import schema
from giajax.engine import tables
from giajax.models.classification import mlp
from giajax.tasks import classification

_TASK = classification.classification(4)
# Of a kind or a size that no argument, or hardly any, takes.
_WRONG = (
  *(None, True, -1, 2**31, -(10**20), 10**400, 1.5, float('nan'), 1e308),
  *('', 'x', '\0', 'x' * 300, [], ['x'], [1.5], [10**20], [[1]], {}, {'a': 1}),
)
# What JAX can number, but no machine can hold.
_LARGE = (2**31 - 1, [2**31 - 1] * 4)
_SHALLOW = {
  'convnext': {'depths': (1,)},
  'densenet': {'blocks': (1,)},
  'efficientnet': {'depth': 1},
  'maxvit': {'depths': (1,)},
  'mobilenet': {'depth': 1},
  'preact_resnet': {'blocks': (1,)},
  'resnet': {'blocks': (1,)},
  'swin': {'depths': (1,)},
  'vit': {'depth': 1},
}
_REQUIRED = {
  # The shallowest networks are the quickest to make.
  'model': {
    name: arguments
    for name in tables.FAMILIES['model']
    for start, arguments in _SHALLOW.items()
    if name.startswith(start)
  },
  'defense': methods_test.DEFENSE_KWARGS,
  'attack': {n: dict(s.kwargs) for n, s in attack_setups.SETUPS.items()},
  'source': {'captured': {'received': '/nowhere'}},
  'dataset': {
    'folder': {'path': '/nowhere', 'size': 8},
    'tfds': {'dataset': 'none', 'split': 'test', 'data_dir': '/nowhere'},
  },
}


def _parts(family, name):
  """Returns what the engine gives to a factory."""
  if family == 'attack':
    setup = attack_setups.SETUPS[name]
    net = setup.net()
    client = setup.client(net, _TASK, train_mode=setup.train_mode)
    client = aggregate.aggregate(client, setup.clients)
    parts = {'world': worlds.World(net, _TASK, client, setup.batch_size)}
    # What a file of weights becomes.
    generator = dict(setup.kwargs).get('generator')
    return parts | ({'generator': generator} if generator else {})
  net = mlp.mlp((4, 4, 1), 4, widths=(2,))
  every = {
    'client': fedsgd.fedsgd(net, _TASK),
    'net': net,
    'task': _TASK,
    'dataset': tables.FAMILIES['dataset']['unknown'](),
    'num_images': 2,
    'num_classes': 10,
    'image_shape': (32, 32, 3),
    'lowering': 'lax',
    # Of a captured update.
    'variables': net.init(jax.random.key(0)),
    'weights': {'path': '/nowhere', 'rename': {}},
    'sends_gradients': False,
  }
  taken = inspect.signature(tables.FAMILIES[family][name]).parameters
  return {k: v for k, v in every.items() if k in taken}


def _own(factory, parts):
  parameters = inspect.signature(factory).parameters
  return {n: p for n, p in parameters.items() if n not in parts}


# Rows that differ in bound arguments alone are one.
_ROWS = [
  (family, name)
  for family, table in tables.FAMILIES.items()
  for name in {
    getattr(factory, 'func', factory): name
    for name, factory in reversed(table.items())
  }.values()
]


@pytest.mark.parametrize(('family', 'name'), _ROWS)
def test_a_value_fits_or_is_refused_in_one_line(family, name):
  table, parts = tables.FAMILIES[family], _parts(family, name)
  given = _REQUIRED.get(family, {}).get(name, {})
  given = {k: v for k, v in given.items() if k not in parts}
  make = functools.partial(factories.make, table, kind=family, **parts)
  for argument, parameter in _own(table[name], parts).items():
    large = _LARGE if parameter.annotation is not float else ()
    for value in (*_WRONG, *large):
      # What is usual is built by other tests.
      if value in (None, True, 1.5) and _fits(value, parameter.annotation):
        continue
      entry = {**given, 'name': name, argument: value}
      try:
        make(entry=entry)
      except ValueError as error:
        text = str(error)
        assert text.startswith('Expected ') and '; got ' in text, text
        assert '\n' not in text


def _fits(value, annotation):
  try:
    schema.check_argument(value, annotation, 'x')
  except ValueError:
    return False
  return True


@pytest.mark.parametrize(('family', 'name'), _ROWS)
def test_every_annotation_is_checked(family, name):
  factory = tables.FAMILIES[family][name]
  for argument, parameter in _own(factory, _parts(family, name)).items():
    wrong = object()
    assert not _fits(wrong, parameter.annotation), (argument, parameter)
