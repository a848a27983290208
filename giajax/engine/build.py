"""The only reader of a config: from names and numbers to functions.

A config is a nested dict (or ConfigDict) of the keys in `DEFAULTS`. A family's
entry is a dict with `name` and the keyword arguments of that row's factory; an
unknown key anywhere is an error, never a default. Everything under `run` may
change the speed of an experiment and not its results, and is left out of the
config's hash.
"""

from collections.abc import Callable, Mapping
import difflib
import hashlib
import inspect
import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from giajax import keys
from giajax import registry
from giajax import threat
from giajax import types
from giajax.attacks import ATTACKS
from giajax.attacks import base as attacks
from giajax.attacks import compose
from giajax.attacks import labels
from giajax.clients import base as clients
from giajax.clients import CLIENTS
from giajax.data import base as data
from giajax.data import DATASETS
from giajax.defenses import base as defenses
from giajax.defenses import DEFENSES
from giajax.metrics import lpips
from giajax.models import base as models
from giajax.models import convert
from giajax.models import MODELS
from giajax.models import structure
from giajax.ops import convolution
from giajax.tasks import TASKS

DEFAULTS: dict[str, Any] = {
  'seed': 0,
  'dataset': {'name': 'photographs'},
  'cases': {'count': 1, 'batch_size': 1, 'rule': 'random', 'given': None},
  'model': {'name': 'convnet'},
  'weights': {'path': '', 'rename': {}},
  'task': {'name': 'classification'},
  'client': {'name': 'fedsgd'},
  'defense': {'name': 'none'},
  'attack': {'name': 'inverting_gradients'},
  'hparams': {},
  'labels': 'granted',
  'threat': {'level': 'C', 'grants': ('labels',)},
  'restarts': 1,
  'records': 50,
  'noise_control': True,
  'lpips': '',
  'sweep': {},
  'run': {
    'lowering': 'auto',
    'restarts_per_batch': 0,
    'cases_per_batch': 0,
    'save_seconds': 30.0,
  },
}
# Dicts whose keys are checked where they are used: a factory's arguments, an
# attack's knobs, the keys of a sweep, a state dict's names.
_OPEN = ('dataset', 'model', 'task', 'client', 'defense', 'attack')
_FREE = ('hparams', 'sweep')


class Setup(NamedTuple):
  """One static setting, ready to run.

  Attributes:
    dataset: where the client's images come from.
    net: the network that the client trains.
    client: what the client really computes, defence included.
    defense: for `on_batch`.
    attack: what the server runs.
    world: the attacker's picture.
    variables: the weights that the server sends.
    granted: what the attacker is given.
    setting: 'diagnostic' or 'deployment', and why.
    lpips: the perceptual distance, or None.
  """

  dataset: data.Dataset
  net: models.Net
  client: clients.Client
  defense: defenses.Defense
  attack: attacks.Attack
  world: attacks.World
  variables: types.Variables
  granted: frozenset[str]
  setting: tuple[str, list[str]]
  lpips: Callable[..., Any] | None


def default_config() -> ml_collections.ConfigDict:
  """Returns `DEFAULTS` for an experiment to change; its keys are locked."""
  config = ml_collections.ConfigDict(DEFAULTS)
  for key in (*_OPEN, *_FREE):
    config[key] = ml_collections.ConfigDict(DEFAULTS[key])
  return config.lock()


def resolve(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a plain dict with every default filled in.

  Raises:
    ValueError: a key that does not exist, or a value of another kind.
  """
  plain = plain_dict(config)
  resolved = _merge(DEFAULTS, plain, '')
  for key, least in (('restarts', 1), ('records', 1), ('seed', 0)):
    _at_least(resolved[key], least, key)
  _at_least(resolved['cases']['count'], 1, 'cases.count')
  _at_least(resolved['cases']['batch_size'], 1, 'cases.batch_size')
  lowering = resolved['run']['lowering']
  registry.lookup(
    {'auto': None, **convolution.LOWERINGS}, lowering, 'run.lowering'
  )
  return resolved


def config_hash(resolved: Mapping[str, Any]) -> str:
  """Returns 12 hex digits that name everything that decides the results."""
  content = {k: v for k, v in resolved.items() if k != 'run'}
  text = json.dumps(content, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def setup(resolved: Mapping[str, Any]) -> Setup:
  """Builds everything that one point of an experiment needs.

  Args:
    resolved: a config as `resolve` returns it, without sweep.

  Raises:
    ValueError: an unknown name or argument, an impossible combination, or an
      attack that needs more than was granted.
  """
  dataset = _make(DATASETS, resolved['dataset'], 'dataset')
  task = _make(
    TASKS, resolved['task'], 'task', num_classes=dataset.num_classes
  )
  defense = _make(DEFENSES, resolved['defense'], 'defense')
  net = defense.on_net(
    _make(
      MODELS,
      resolved['model'],
      'model',
      image_shape=dataset.image_shape,
      num_classes=dataset.num_classes,
      lowering=resolved['run']['lowering'],
    )
  )
  client = _make(CLIENTS, resolved['client'], 'client', net=net, task=task)
  world = attacks.World(net, task, client, resolved['cases']['batch_size'])
  attack = _attack(resolved, world)
  granted = threat.grants(
    resolved['threat']['level'], resolved['threat']['grants']
  )
  name = resolved['attack']['name']
  threat.require(attack.needs, granted, f'attack {name!r}')
  weights = resolved['weights']
  setting = threat.setting(
    train_mode=client.train_mode,
    batch_size=world.batch_size,
    granted=granted & attack.needs,
    trained=bool(weights['path']),
    local_steps=client.local_steps,
    has_batch_norm=structure.has_batch_norm(net),
  )
  return Setup(
    dataset=dataset,
    net=net,
    client=defense.on_client(client),
    defense=defense,
    attack=attack,
    world=world,
    variables=_variables(net, weights, resolved['seed']),
    granted=granted,
    setting=setting,
    lpips=lpips.load(resolved['lpips']) if resolved['lpips'] else None,
  )


def hparams(resolved: Mapping[str, Any], attack: attacks.Attack):
  """Returns the attack's traced knobs with the config's values, as float32.

  Raises:
    ValueError: a knob that the attack does not have.
  """
  given = resolved['hparams']
  for name in given:
    _known(name, attack.hparams, 'hparams')
  return {
    name: jnp.asarray(given.get(name, default), jnp.float32)
    for name, default in attack.hparams.items()
  }


def plain_dict(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a config as dicts, lists and scalars: what JSON can say."""
  if hasattr(config, 'to_dict'):
    config = config.to_dict()  # pyrefly: ignore
  return json.loads(json.dumps(dict(config)))


def _attack(resolved, world):
  attack = _make(ATTACKS, resolved['attack'], 'attack', world=world)
  rule = resolved['labels']
  if rule == 'granted':
    return attack
  make = registry.lookup(
    {'granted': None, **labels.RULES}, rule, 'label rule'
  )
  return compose.with_labels(attack, make(world))


def _variables(net, weights, seed):
  if weights['path']:
    return convert.load(weights['path'], net, rename=weights['rename'])
  return net.init(keys.named(jax.random.key(seed), 'model'))


def _make(
  table: Mapping[str, Callable[..., Any]],
  entry: Mapping[str, Any],
  kind: str,
  **given: Any,
) -> Any:
  """Calls a row of a table with a config's arguments and those of the engine.

  Arguments in `given` that the factory does not take are left out.
  """
  kwargs = {k: v for k, v in entry.items() if k != 'name'}
  if 'name' not in entry:
    raise ValueError(
      f'Expected {kind}.name; got {kind}={dict(entry)}; name one of '
      f'{", ".join(sorted(table))}'
    )
  factory = registry.lookup(table, entry['name'], kind)
  parameters = inspect.signature(factory).parameters
  allowed = [p for p in parameters if p not in given]
  for name in kwargs:
    _known(name, allowed, f'{kind} ({entry["name"]})')
  given = {k: v for k, v in given.items() if k in parameters}
  missing = [
    name
    for name, p in parameters.items()
    if p.default is p.empty
    and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    and name not in {**kwargs, **given}
  ]
  if missing:
    raise ValueError(
      f'Expected {kind}.{missing[0]} for {kind}={entry["name"]!r}; got only '
      f'{sorted(kwargs)}; set it'
    )
  return factory(**kwargs, **given)


def _merge(defaults, given, path):
  merged = dict(defaults)
  for key, value in given.items():
    _known(key, defaults, path or 'config')
    name = f'{path}.{key}' if path else key
    if isinstance(defaults[key], dict):
      if not isinstance(value, dict):
        raise ValueError(
          f'Expected {name} to be a dict; got {name}={value!r}; write '
          f'{name}=dict(...)'
        )
      if path == '' and key in (*_OPEN, *_FREE):
        merged[key] = value
      elif defaults[key]:
        merged[key] = _merge(defaults[key], value, name)
      else:
        merged[key] = value
    else:
      merged[key] = value
  return json.loads(json.dumps(merged))


def _known(name, known, where):
  if name not in known:
    near = difflib.get_close_matches(str(name), list(known), n=1)
    hint = f'did you mean {near[0]!r}?' if near else 'remove it'
    raise ValueError(
      f'Expected a key of {where} ({", ".join(sorted(known)) or "none"}); '
      f'got {name!r}; {hint}'
    )


def _at_least(value, least, name):
  if not isinstance(value, int) or isinstance(value, bool) or value < least:
    raise ValueError(
      f'Expected a whole number of at least {least} for {name}; got '
      f'{name}={value!r}; correct it'
    )
