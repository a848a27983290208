"""What a config may hold: its keys, their kinds, and the errors for mistakes.

A config is a nested dict (or ConfigDict) of the keys in `DEFAULTS`. An unknown
key, or a value of another kind, is an error and never a default. Everything
under `run` may change the speed of an experiment but not its results, and
`study` says what to compare the results with; both are left out of its hash.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
import hashlib
import json
import types
import typing
from typing import Any

import ml_collections
import numpy as np

from giajax import registry
from giajax import require
from giajax.models import precision
from giajax.ops import convolution

DEFAULTS: dict[str, Any] = {
  'seed': 0,
  'dataset': {'name': 'photographs'},
  'auxiliary': {},
  'source': {'name': 'simulated'},
  'cases': {
    'count': 1,
    'batch_size': 1,
    'clients': 1,
    'rule': 'random',
    'repeats': 2,
    'alpha': 0.5,
    'given': None,
    'objects': (1, 3),
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
  'noise_controls': 1,
  'precision': 'full',
  'lpips': '',
  'gradient_similarity': False,
  'gradient_share': False,
  'image_share': False,
  'regions': {'content': False, 'boxes': False},
  'ssim_range6': False,
  'sweep': {},
  'study': {},
  'run': {
    'lowering': 'auto',
    'restarts_per_batch': 0,
    'cases_per_batch': 0,
    'save_seconds': 30.0,
    'most_updates': 100_000,
  },
}
# A row of a family: its keys are the row's arguments, checked by `build`. No
# keys are no row, where that may be.
FAMILIES = (
  'dataset',
  'auxiliary',
  'source',
  'model',
  'task',
  'client',
  'belief',
  'defense',
  'attack',
)
_PLAIN = json.loads(json.dumps(DEFAULTS))
# Keys that name something else, which is checked where that is known.
_FREE = ('study', 'sweep', 'weights.rename')
_SEVERAL = ('defense',)  # they take lists, applied in order
# The annotations of values whose default does not say what they may be.
_ANNOTATIONS = {
  'cases.given': Sequence[int] | None,
  'cases.objects': tuple[int, int],
  'defense': dict | Sequence[dict],
  'threat.grants': Sequence[str],
  'threat.level': str | None,
  'trainable.freeze': Sequence[str],
  'trainable.include': Sequence[str],
  'weights.rename': Mapping[str, str],
}
# The most updates that an experiment may attack: each is numbered, and each
# point is built, before the first of them runs.
MOST_UPDATES = 10_000_000
_RANGES = {
  'seed': (0, require.LARGEST_WHOLE),
  'restarts': (1, require.LARGEST_WHOLE),
  'records': (1, 100_000),
  'noise_controls': (0, MOST_UPDATES),
  'cases.count': (1, MOST_UPDATES),
  'cases.batch_size': (1, require.LARGEST_WHOLE),
  'cases.clients': (1, require.LARGEST_WHOLE),
  'threat.proxy_images': (1, require.LARGEST_WHOLE),
  'run.restarts_per_batch': (0, require.LARGEST_WHOLE),
  'run.cases_per_batch': (0, require.LARGEST_WHOLE),
  'run.save_seconds': (0, require.LARGEST_NUMBER),
  'run.most_updates': (1, MOST_UPDATES),
}
_UNHASHED = ('run', 'study')
_HASHED_IF_SET = (
  'auxiliary',
  'cases.objects',
  'image_share',
  'precision',
  'regions',
  'source',
  'ssim_range6',
  'sweep',
)
_NONE = type(None)
_WORDS = {
  bool: 'True or False',
  int: 'a whole number',
  float: 'a finite number',
  str: 'a string',
  list: 'a list',
  dict: 'a dict',
  _NONE: 'None',
}
_PLURALS = {
  int: 'whole numbers',
  float: 'finite numbers',
  str: 'strings',
  dict: 'dicts',
}
# Another kind, a list inside of itself, a number of thousands of digits, or a
# placeholder that was never filled in.
_NOT_PLAIN = (
  TypeError,
  ValueError,
  RecursionError,
  ml_collections.config_dict.RequiredValueError,
)
# What annotations call lists and dicts.
_KINDS = {Sequence: list, tuple: list, Mapping: dict}


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
  for name, (least, most) in _RANGES.items():
    section, _, key = name.rpartition('.')
    value = (resolved[section] if section else resolved)[key]
    if not least <= value <= most:
      limit, advice = (
        (f'least {least}', 'raise it')
        if value < least
        else (f'most {most}', 'lower it')
      )
      raise ValueError(
        f'Expected {name} of at {limit}; got {name}={value!r}; {advice}'
      )
  return resolved


def check_whole(resolved: Mapping[str, Any]) -> None:
  """Raises ValueError for a whole number that no file of results can hold."""

  def check(word: str) -> None:
    if abs(int(word)) >= 1 << 63:
      raise ValueError(
        f'Expected whole numbers of 64 bits in the config; got {word[:25]}; '
        'write a number with a point, or correct it'
      )

  json.loads(json.dumps(resolved), parse_int=check)


def config_hash(resolved: Mapping[str, Any]) -> str:
  """Returns a hash of everything that decides the results, in 12 hex digits.

  A point of a sweep has the hash of the config that runs it alone. A key that
  is younger than some results enters it where it is not at its default.
  """
  content = {k: v for k, v in plain(resolved).items() if k not in _UNHASHED}
  for name in _HASHED_IF_SET:
    *path, key = name.split('.')
    own, default = content, _PLAIN
    for section in path:
      own, default = own[section], default[section]
    if key in own and own[key] == default[key]:
      del own[key]
  text = json.dumps(content, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a config as dicts, lists and scalars: what JSON can say.

  Raises:
    ValueError: it holds something else.
  """
  try:
    if isinstance(config, ml_collections.ConfigDict):
      config = config.to_dict()
    return json.loads(json.dumps(dict(config)))
  except _NOT_PLAIN as error:
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
  check_argument(value, float, name)
  return np.float32(value)


def check_argument(value: Any, annotation: Any, name: str) -> Any:
  """Checks a value against an annotation.

  The members of a union that no config can hold, such as a record, are left
  out; without another member, every value fits.

  Args:
    value: the value, as a config holds it.
    annotation: the type of a factory's argument.
    name: the name of the argument.

  Returns:
    The value; a whole number as a float where only a float fits.

  Raises:
    ValueError: a value of another kind, or a number that does not fit int32 or
      float32.
  """
  members = [m for m in _members(annotation) if _kind(m) in _WORDS]
  if not members:
    return value
  fitting = [m for m in members if _fits(value, m)]
  if fitting:
    return float(value) if fitting == [float] else value
  words = ' or '.join(map(_words, members))
  entries = value if isinstance(value, list | tuple) else [value]
  large = any(
    isinstance(v, int | float) and abs(v) > require.LARGEST_WHOLE
    for v in entries
  )
  advice = 'use what fits int32 or float32' if large else 'correct it'
  raise ValueError(
    f'Expected {words} for {name}; got {name}={value!r}; {advice}'
  )


def _merge(defaults, given, path):
  merged = json.loads(json.dumps(defaults))
  for key, value in given.items():
    require_known(key, defaults, path or 'config')
    name = f'{path}.{key}' if path else key
    default = merged[key]
    check_argument(value, _ANNOTATIONS.get(name, type(default)), name)
    nested = isinstance(default, dict) and name not in (*FAMILIES, *_FREE)
    merged[key] = _merge(default, value, name) if nested else value
  return merged


def _members(annotation: Any) -> tuple[Any, ...]:
  union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
  return typing.get_args(annotation) if union else (annotation,)


def _kind(annotation: Any) -> Any:
  """Returns what JSON calls the values of an annotation that is no union."""
  origin = typing.get_origin(annotation) or annotation
  return _KINDS.get(origin, origin)


def _items(annotation: Any) -> tuple[Any, int | None]:
  """Returns the annotation of a list's or dict's entries, and their number.

  Any for entries of any kind, None for any number.
  """
  entries = typing.get_args(annotation)
  if not entries:
    return Any, None
  fixed = typing.get_origin(annotation) is tuple and entries[-1] is not ...
  # The last one of a dict's is that of its values.
  item = entries[-1] if _kind(annotation) is dict else entries[0]
  return item, len(entries) if fixed else None


def _fits(value: Any, annotation: Any) -> bool:
  """Returns whether a value is of a kind, and of a size that JAX can hold."""
  kind = _kind(annotation)
  if kind is int:
    return type(value) is int and abs(value) <= require.LARGEST_WHOLE
  if kind is float:
    number = type(value) in (int, float)
    return number and abs(value) <= require.LARGEST_NUMBER
  if kind not in (list, dict):
    return kind not in _WORDS or type(value) is kind
  item, length = _items(annotation)
  if kind is dict and isinstance(value, dict):
    entries = [*value.values()]
  elif kind is list and isinstance(value, list | tuple):
    entries = value
  else:
    return False
  return length in (None, len(value)) and all(
    any(_fits(entry, member) for member in _members(item)) for entry in entries
  )


def _words(annotation: Any) -> str:
  kind = _kind(annotation)
  if kind not in (list, dict):
    return _WORDS[kind]
  item, length = _items(annotation)
  number = '' if length is None else f'{length} '
  plural = _PLURALS.get(_kind(item))
  return f'{_WORDS[kind]} of {number}{plural}' if plural else _WORDS[kind]
