"""The reader of a config: from names and numbers to functions.

A family's entry is a dict with `name` and the keyword arguments of that row's
factory; the rest is described in `schema`. An attack's entry may set any of its
traced knobs as well: points that differ in these alone share one compiled
program.
"""

from collections.abc import Iterator, Mapping
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from giajax import keys
from giajax import registry
from giajax import threat
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import ATTACKS
from giajax.attacks import base as attacks
from giajax.attacks.parts import compose
from giajax.attacks.parts import labels
from giajax.clients import aggregate
from giajax.clients import BELIEFS
from giajax.data import base as data
from giajax.defenses import base as defenses
from giajax.engine import checks
from giajax.engine import experiment as records
from giajax.engine import factories
from giajax.engine import generators
from giajax.engine import identity
from giajax.engine import own_code
from giajax.engine import schema
from giajax.engine import sweep
from giajax.engine import systems
from giajax.engine import tables
from giajax.engine.sources import SOURCES
from giajax.generative import base as generative
from giajax.metrics import base as metrics
from giajax.metrics import scoring
from giajax.models import precision

default_config = schema.default_config
resolve = schema.resolve

# Keys of a config that are arguments of a compiled program, or used around it;
# a change of any other key needs another program.
_NOT_COMPILED = frozenset(
  {
    *scoring.KEYS,
    'auxiliary',
    'noise_controls',
    'records',
    'restarts',
    'seed',
    'source',
    'study',
    'weights',
  }
)
# Keys of what the attacker does, and how often; any other may enter a ground.
_ATTACKER = frozenset(
  {'attack', 'belief', 'labels', 'noise_controls', 'records', 'restarts'}
)
# Tables in `tables.TABLES` whose rows are named inside of arguments.
_NAMED_INSIDE = ('distances', 'generators', 'label rules', 'metrics', 'starts')


class Grounds:
  """What settings have in common whose attackers differ, each built once."""

  def __init__(self):
    self._datasets: dict[str, data.Dataset] = {}
    self._grounds: dict[str, records.Ground] = {}

  def dataset(
    self, entry: Mapping[str, Any], kind: str = 'dataset'
  ) -> data.Dataset:
    """Returns a data set of a config's entry, see `systems.dataset`."""
    name = json.dumps(entry, sort_keys=True)
    if name not in self._datasets:
      self._datasets[name] = systems.dataset(entry, kind)
    return self._datasets[name]

  def of(self, resolved: Mapping[str, Any]) -> records.Ground:
    """Returns what a setting has in common with those of other attackers.

    Args:
      resolved: a config as `resolve` returns it, without sweep.

    Raises:
      ValueError: an unknown name or argument, or a file that cannot be read.
    """
    own = {k: v for k, v in resolved.items() if k not in _ATTACKER}
    files = identity.inputs(own, rows(resolved))  # as they are now
    name = json.dumps([own, files], sort_keys=True)
    if name not in self._grounds:
      self._grounds[name] = _ground(resolved, self.dataset)
    return self._grounds[name]


def experiment(
  config: Mapping[str, Any], grounds: Grounds | None = None
) -> records.Experiment:
  """Builds everything that a config describes.

  Args:
    config: see `schema.DEFAULTS`.
    grounds: what was built before, of which as much as possible is used.

  Raises:
    ValueError: a user's mistake in any point of its sweep.
  """
  knobs: dict[str, frozenset[str]] = {}
  cohorts: dict[str, records.Cohort] = {}
  inputs: dict[str, str] = {}
  found: dict[str, None] = {}  # about received updates
  grounds = grounds or Grounds()

  for setting in sweep.expand(config):
    shape = _text(setting.config, _numbers(setting.config['attack']))
    built = None
    if shape not in knobs:
      built = setup(setting.config, grounds)
      knobs[shape] = frozenset(built.attack.hparams)
    static = _text(setting.config, knobs[shape])
    if static not in cohorts:
      built = built or setup(setting.config, grounds)
      cohorts[static] = records.Cohort(built, ())
      inputs |= identity.inputs(setting.config, rows(setting.config))
      inputs |= _drawn(setting.config, built)
      named = rows(setting.config)
      found |= dict.fromkeys(checks.found(setting.config, built, named))
    cohort = cohorts[static]
    point = _point(setting, cohort.setup.attack)
    cohorts[static] = cohort._replace(points=(*cohort.points, point))
  setups = [cohort.setup for cohort in cohorts.values()]
  read = {id(d): d for s in setups for d in (s.dataset, s.auxiliary)}
  for images in filter(None, read.values()):
    inputs |= identity.images(images)
  resolved = resolve(config)
  digest = schema.config_hash(resolved)
  level, extra = resolved['threat']['level'], resolved['threat']['grants']
  made = next(iter(cohorts.values())).setup
  granted = threat.grants(level, extra) - made.source.hidden
  described = {'level': level, **threat.describe(granted)}
  return records.Experiment(
    [*cohorts.values()], resolved, digest, inputs, described, [*found]
  )


def setup(
  resolved: Mapping[str, Any], grounds: Grounds | None = None
) -> records.Setup:
  """Builds everything that one point of an experiment needs.

  Args:
    resolved: a config as `resolve` returns it, without sweep.
    grounds: what was built before, of which as much as possible is used.

  Raises:
    ValueError: an unknown name or argument, an impossible combination, or an
      attack that needs more than was granted.
  """
  threats, parties = resolved['threat'], resolved['cases']['clients']
  auxiliary, parts, agreed, source = (grounds or Grounds()).of(resolved)
  granted = threat.grants(threats['level'], threats['grants'])
  exactness = precision.named(resolved['precision'])
  world, needs = world_of(resolved, parts)
  generator = _generator(resolved, world)
  attack = attack_of(resolved, world, needs, generator)
  if generator is not None:
    own = victim(resolved, agreed)
    generators.check(generator, own, parts.dataset, auxiliary)
  client, message = _sent(parts, attack, agreed, resolved['seed'])
  return records.Setup(
    source=source,
    dataset=parts.dataset,
    auxiliary=auxiliary,
    net=parts.net,
    viewer=parts.viewer,
    client=aggregate.aggregate(
      defenses.protect(client, parts.defense), parties
    ),
    defense=parts.defense,
    attack=attack,
    generator=generator,
    world=world,
    variables=agreed,
    message=message,
    granted=granted,
    scorers=scoring.scorers(
      resolved,
      metrics.Audited(
        image_shape=parts.net.spec.image_shape,
        net=client.net,
        viewer=parts.viewer,
        task=parts.task,
        merge=attack.merge,
        client=aggregate.aggregate(client, parties),
        clients=parties,
      ),
    ),
    attack_name=resolved['attack']['name'],
    program=_program(resolved, parts.defense, granted, attack),
    cases=records.Cases(**resolved['cases'], seed=resolved['seed']),
    proxy_images=threats['proxy_images'],
    seed=resolved['seed'],
    restarts=resolved['restarts'],
    records=resolved['records'],
    noise_controls=resolved['noise_controls'],
    products=exactness.products,
    run=records.RunFlags(**resolved['run']),
  )


def world_of(
  resolved: Mapping[str, Any], parts: records.System
) -> tuple[worlds.World, frozenset[str]]:
  """Returns the attacker's picture of a system, and the grants for that.

  Args:
    resolved: a config as `resolve` returns it, without sweep.
    parts: its system, of one client's share of the images.

  Raises:
    ValueError: an unknown name or argument, or an impossible combination.
  """
  count, parties = (resolved['cases'][k] for k in ('batch_size', 'clients'))
  granted = threat.grants(*(resolved['threat'][k] for k in ('level', 'grants')))
  exactness = precision.named(resolved['precision'])
  pictured = parts.client
  if exactness.on_net:
    pictured = parts.altered(exactness.on_net)
  entry = resolved['belief']
  belief, needs = _belief(entry, parts, pictured, count // parties)
  if 'defense' in granted:
    belief = parts.defense.on_belief(belief)
  belief = aggregate.aggregate(belief, parties)
  return worlds.World(pictured.net, parts.task, belief, count), needs


def hparams(
  entry: Mapping[str, Any], attack: attacks.Attack
) -> dict[str, np.float32]:
  """Returns an attack's traced knobs, float32, with the values of its entry.

  Raises:
    ValueError: a value that is no finite number, or a learning rate that is
      not above 0.
  """
  hp = {
    name: schema.number(entry.get(name, default), f'attack.{name}')
    for name, default in attack.hparams.items()
  }
  if hp.get('learning_rate', 1) <= 0:
    raise ValueError(
      'Expected attack.learning_rate > 0; got attack.learning_rate='
      f'{hp["learning_rate"]}; steps are subtracted already'
    )
  return hp


def _ground(resolved, read) -> records.Ground:
  """Builds what does not depend on the attacker; `read` returns data sets."""
  images = read(resolved['dataset'])
  auxiliary = _auxiliary(resolved, images, read)
  parts = systems.system(resolved, systems.share(resolved), images)
  agreed = systems.variables(parts.net, resolved['weights'], resolved['seed'])
  return records.Ground(
    auxiliary, parts, agreed, _source(resolved, parts, agreed)
  )


def _source(resolved, parts, agreed) -> records.Source:
  """Returns where updates come from."""
  gradients = {'fedsgd': True, 'fedavg': False}
  return factories.make(
    SOURCES,
    resolved['source'],
    'source',
    net=parts.net,
    variables=agreed,
    weights=resolved['weights'],
    sends_gradients=gradients.get(resolved['client']['name']),
    task=parts.task,
    dataset=parts.dataset,
  )


def _drawn(resolved, built: records.Setup) -> dict[str, str]:
  """Returns the sum of weights that a network of the user's own brings.

  They need not be the same in the next process.
  """
  name = resolved['model']['name']
  if ':' not in name or resolved['weights']['path']:
    return {}
  return {f'weights of {name}': identity.arrays(built.variables)}


def _auxiliary(resolved, images, read) -> data.Dataset | None:
  """Returns the auxiliary data, None for none."""
  entry = resolved['auxiliary']
  if not entry or entry == resolved['dataset']:
    return images if entry else None
  auxiliary = read(entry, 'auxiliary')
  data.check_alike(auxiliary, images, 'auxiliary')
  return auxiliary


def attack_of(
  resolved: Mapping[str, Any],
  world: worlds.World,
  needs: frozenset[str],
  generator: generative.Trained | None,
) -> attacks.Attack:
  """Returns the attack, which needs no more than was granted.

  Args:
    resolved: a config as `resolve` returns it, without sweep.
    world: the attacker's picture of the system.
    needs: the grants for that.
    generator: the trained generator of an attack that takes one.

  Raises:
    ValueError: an unknown name or argument, or a grant that is missing.
  """
  threats, name = resolved['threat'], resolved['attack']['name']
  attack = _attack(resolved, world, generator)
  attack = attack._replace(needs=attack.needs | needs)
  granted = threat.grants(threats['level'], threats['grants'])
  threat.require(attack.needs, granted, f'attack {name!r}')
  return attack


def victim(
  resolved: Mapping[str, Any], agreed: types.Variables
) -> dict[str, Any]:
  """Returns what a network that inverts updates has to be trained for.

  Args:
    resolved: a config as `resolve` returns it, without sweep.
    agreed: the weights of its network.
  """
  message = seen(resolved, agreed)
  cases, threats = resolved['cases'], resolved['threat']
  granted = threat.grants(threats['level'], threats['grants'])
  keys = ('model', 'trainable', 'task', 'client', 'belief', 'precision')
  return {
    **{key: resolved[key] for key in keys},
    # One that the attacker does not know is not part of its picture.
    'defense': resolved['defense'] if 'defense' in granted else None,
    'batch_size': cases['batch_size'],
    'clients': cases['clients'],
    'weights': identity.arrays(message.variables),
  }


def seen(
  resolved: Mapping[str, Any], agreed: types.Variables
) -> types.ServerMessage:
  """Returns what the server sends, as far as the attacker sees it."""
  threats = resolved['threat']
  granted = threat.grants(threats['level'], threats['grants'])
  nothing = types.Update({}, {}, jnp.zeros((), jnp.int32))
  message = types.ServerMessage(agreed)
  return threat.observed(granted, message, nothing)[0]


def _generator(resolved, world) -> generative.Trained | None:
  """Returns the trained generator of an attack that takes one."""
  entry = resolved['attack']
  taken = factories.parameters(ATTACKS, entry, 'attack')
  if 'generator' not in entry or 'generator' not in taken:
    return None
  lowering = resolved['run']['lowering']
  return generators.trained(entry['generator'], world, lowering)


def _attack(resolved, world, generator) -> attacks.Attack:
  """Returns the attack; other arguments than its factory's must be knobs."""
  entry, rule = resolved['attack'], resolved['labels']
  parameters = factories.parameters(ATTACKS, entry, 'attack')
  own = {k: v for k, v in entry.items() if k in parameters or k == 'name'}
  if 'world' in entry:
    own['world'] = entry['world']  # refused
  parts = {'world': world}
  if generator is not None:
    del own['generator']
    parts['generator'] = generator
  attack = factories.make(ATTACKS, own, 'attack', **parts)
  for name in entry.keys() - own.keys():
    names = {*parameters, *attack.hparams} - {'world'}
    schema.require_known(name, names, f'attack ({entry["name"]})')
  if rule == 'granted':
    return attack
  make = registry.lookup({'granted': None, **labels.RULES}, rule, 'label rule')
  if 'labels' not in attack.needs:
    raise ValueError(
      "Expected labels='granted' for an attack that finds its own; got "
      f'labels={rule!r} with attack={entry["name"]!r}; leave labels out'
    )
  if 'matching' in attack.needs:
    raise ValueError(
      "Expected labels='granted' for task.matching='oracle', which is of the "
      f'objects in their own order; got labels={rule!r}; leave one of them out'
    )
  return compose.with_labels(attack, make(world))


def _belief(entry, parts, pictured, num_images):
  """Returns the client that the server assumes, and the grants for that."""
  belief = factories.make(
    BELIEFS,
    entry,
    'belief',
    client=pictured,
    net=pictured.net,
    task=parts.task,
    num_images=num_images,
  )
  knows = belief is pictured and pictured.local_steps > 1
  return belief, frozenset({'client_hparams'} if knows else ())


def _sent(parts, attack, agreed, seed):
  """Returns the client of the network that is sent, and the message."""
  if attack.on_net is None:
    return parts.client, types.ServerMessage(agreed)
  client = parts.altered(attack.on_net)
  key = keys.named(jax.random.key(seed), 'model')
  fresh = trees.widened(client.net.init(key))
  old, new = (
    types.Variables(*map(trees.named_leaves, v)) for v in (agreed, fresh)
  )
  sent = types.Variables(*(trees.nested({**n, **o}) for n, o in zip(new, old)))
  return client, types.ServerMessage(sent)


def _point(setting: sweep.Setting, attack: attacks.Attack) -> records.Point:
  return records.Point(
    index=setting.index,
    sweep=setting.overrides,
    hp=hparams(setting.config['attack'], attack),
    config_hash=schema.config_hash(setting.config),
  )


def _program(resolved, defense, granted, attack) -> str:
  """Names the compiled program; a key that may enter it is part of the name."""
  left_out = _NOT_COMPILED
  apart = defense.on_net is defenses.none().on_net
  if apart and 'defense' not in granted:
    left_out |= {'defense'}
  relevant = {k: v for k, v in resolved.items() if k not in left_out}
  relevant['cases'] = [resolved['cases'][k] for k in ('batch_size', 'clients')]
  return _text(relevant, attack.hparams)


def _numbers(entry: Mapping[str, Any]) -> frozenset[str]:
  """Returns the arguments of an attack's entry that may be traced knobs."""
  parameters = factories.parameters(ATTACKS, entry, 'attack')
  kinds = {
    name: str(parameter.annotation) for name, parameter in parameters.items()
  }
  return frozenset(
    name
    for name, value in entry.items()
    if type(value) in (int, float) and 'float' in kinds.get(name, 'float')
  )


def _text(config: Mapping[str, Any], knobs: Mapping | frozenset[str]) -> str:
  """Returns a config as text, without the values of an attack's knobs."""
  attack = {k: v for k, v in config['attack'].items() if k not in knobs}
  return json.dumps({**config, 'attack': attack}, sort_keys=True)


def rows(config: Mapping[str, Any]) -> Iterator[Any]:
  """Yields the rows that a config names, and those that arguments may name."""
  for kind, table in tables.FAMILIES.items():
    entry = config[kind]
    for one in filter(None, entry if isinstance(entry, list) else [entry]):
      yield factories.row(table, one, kind)
  yield from own_code.modules(config)
  for name in _NAMED_INSIDE:
    yield from tables.TABLES[name].values()
