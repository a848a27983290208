"""What a config may hold: its keys, their kinds, and the errors for mistakes.

A config is a nested dict (or ConfigDict) of the keys in `DEFAULTS`. An unknown
key, or a value of another kind, is an error and never a default. Everything
under `run` may change the speed of an experiment but not its results, and
`study` says what to compare the results with; both are left out of its hash.
"""

from collections.abc import Collection, Iterator, Mapping
import hashlib
import json
import math
import types
import typing
from typing import Any

import ml_collections
import numpy as np

from giajax import registry
from giajax.models import precision
from giajax.ops import convolution

DEFAULTS: dict[str, Any] = {
  'seed': 0,
  'dataset': {'name': 'photographs'},
  'cases': {
    'count': 1,
    'batch_size': 1,
    'clients': 1,
    'rule': 'random',
    'repeats': 2,
    'alpha': 0.5,
    'given': None,
  },
  'model': {'name': 'convnet'},
  'weights': {'path': '', 'rename': {}},
  'trainable': {'include': ('*',), 'freeze': ()},
  'task': {'name': 'classification'},
  'client': {'name': 'fedsgd'},
  'belief': {'name': 'same'},
  'defense': {'name': 'none'},
  'attack': {'name': 'inverting_gradients'},
  'labels': 'granted',
  'threat': {'level': 'C', 'grants': ('labels',), 'proxy_images': 32},
  'restarts': 1,
  'records': 50,
  'noise_control': True,
  'precision': 'full',
  'lpips': '',
  'gradient_similarity': False,
  'gradient_share': False,
  'sweep': {},
  'study': {},
  'run': {
    'lowering': 'auto',
    'restarts_per_batch': 0,
    'cases_per_batch': 0,
    'save_seconds': 30.0,
  },
}
# A row of a family: its keys are the row's arguments, checked by `build`.
FAMILIES = (
  'dataset',
  'model',
  'task',
  'client',
  'belief',
  'defense',
  'attack',
)
# Keys that name something else, which is checked where that is known.
_FREE = ('study', 'sweep', 'weights.rename')
_SEVERAL = ('defense',)  # they take lists, applied in order
_LEAST = {
  'seed': 0,
  'restarts': 1,
  'records': 1,
  'cases.count': 1,
  'cases.batch_size': 1,
  'cases.clients': 1,
  'threat.proxy_images': 1,
  'run.restarts_per_batch': 0,
  'run.cases_per_batch': 0,
  'run.save_seconds': 0,
}
_OPTIONAL = ('cases.given', 'threat.level')
_HASHED_IF_SET = ('precision', 'sweep')
_WORDS = {
  bool: 'True or False',
  int: 'a whole number',
  float: 'a finite number',
  str: 'a string',
  list: 'a list',
  dict: 'a dict',
  type(None): 'None',
}


class Config(ml_collections.ConfigDict):
  """A ConfigDict that may hold a sweep: keys such as 'cases.batch_size'."""

  def __init__(self, initial_dictionary: Any = None, **kwargs: Any):
    kwargs.setdefault('allow_dotted_keys', True)
    super().__init__(initial_dictionary, **kwargs)

  def __iter__(self) -> Iterator[str]:
    """Yields the keys as they were set: the last one changes fastest."""
    return iter(self._fields)

  def __setitem__(self, key: str, value: Any) -> None:
    """Lets a family be one entry or a list of them."""
    if key in _SEVERAL and isinstance(value, (dict, list, tuple)):
      value = Config(value) if isinstance(value, dict) else value
      with self.ignore_type():
        super().__setitem__(key, value)
    else:
      super().__setitem__(key, value)


def default_config() -> ml_collections.ConfigDict:
  """Returns `DEFAULTS` for an experiment to change; its keys are locked."""
  config = Config(DEFAULTS)
  for key in (*FAMILIES, 'study', 'sweep'):
    config[key] = Config(DEFAULTS[key])
  return config.lock()


def resolve(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a plain dict with every default filled in.

  Raises:
    ValueError: a key that does not exist, or a value of another kind.
  """
  resolved = _merge(DEFAULTS, plain(config), '')
  lowerings = {'auto': None, **convolution.LOWERINGS}
  registry.lookup(lowerings, resolved['run']['lowering'], 'run.lowering')
  registry.lookup(precision.PRECISIONS, resolved['precision'], 'precision')
  for name, least in _LEAST.items():
    section, _, key = name.rpartition('.')
    value = (resolved[section] if section else resolved)[key]
    if value < least:
      raise ValueError(
        f'Expected {name} of at least {least}; got {name}={value!r}; raise it'
      )
  return resolved


def config_hash(resolved: Mapping[str, Any]) -> str:
  """Returns a hash of everything that decides the results, in 12 hex digits.

  A point of a sweep has the hash of the config that runs it alone. A key that
  is younger than some results enters it where it is not at its default.
  """
  content = {
    key: value
    for key, value in resolved.items()
    if key not in ('run', 'study')
    and not (key in _HASHED_IF_SET and value == DEFAULTS[key])
  }
  text = json.dumps(content, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a config as dicts, lists and scalars: what JSON can say.

  Raises:
    ValueError: it holds something else.
  """
  if isinstance(config, ml_collections.ConfigDict):
    config = config.to_dict()
  try:
    return json.loads(json.dumps(dict(config)))
  except TypeError as error:
    raise ValueError(
      'Expected a config of dicts, lists, numbers, strings and None; got '
      f'another kind ({error}); convert it in the config'
    ) from error


def require_known(name: str, names: Collection[str], where: str) -> None:
  """Raises ValueError, with a suggestion, unless `name` is among `names`."""
  if name not in names:
    near = registry.closest(name, names)
    hint = f'did you mean {near!r}?' if near else 'remove it'
    keys = f'a key of {where}: {", ".join(sorted(names))}'
    keys = keys if names else f'{where} without further keys'
    raise ValueError(f'Expected {keys}; got {name!r}; {hint}')


def number(value: Any, name: str) -> np.float32:
  """Returns a float32.

  Raises:
    ValueError: it is no finite number, or too large for one.
  """
  _check(value, (float,), name)
  if abs(value) > float(np.finfo(np.float32).max):
    raise ValueError(
      f'Expected {name} to fit float32; got {name}={value!r}; lower it'
    )
  return np.float32(value)


def check_argument(value: Any, annotation: Any, name: str) -> None:
  """Checks a factory's argument against its annotation, if that is plain.

  Raises:
    ValueError: an int, float, bool, str or None of another kind.
  """
  union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
  kinds = typing.get_args(annotation) if union else (annotation,)
  if all(isinstance(kind, type) and kind in _WORDS for kind in kinds):
    _check(value, kinds, name)


def _merge(defaults, given, path):
  merged = json.loads(json.dumps(defaults))
  for key, value in given.items():
    require_known(key, defaults, path or 'config')
    name = f'{path}.{key}' if path else key
    default = merged[key]
    kinds = (list,) if default is None else (type(default),)
    kinds += (list,) * (name in _SEVERAL)
    _check(value, kinds + (type(None),) * (name in _OPTIONAL), name)
    nested = isinstance(default, dict) and name not in (*FAMILIES, *_FREE)
    merged[key] = _merge(default, value, name) if nested else value
  return merged


def _check(value, kinds, name):
  fits = (
    type(value) in kinds
    or (float in kinds and type(value) is int)
    or (list in kinds and isinstance(value, tuple))
  )
  if not fits or (isinstance(value, float) and not math.isfinite(value)):
    words = ' or '.join(_WORDS[kind] for kind in kinds)
    raise ValueError(
      f'Expected {words} for {name}; got {name}={value!r}; correct it'
    )
