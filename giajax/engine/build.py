"""The only reader of a config: from names and numbers to functions.

A family's entry is a dict with `name` and the keyword arguments of that row's
factory; the rest is described in `schema`.
"""

from collections.abc import Callable, Mapping
import functools
import inspect
from typing import Any, NamedTuple

import jax
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
from giajax.clients import base as clients
from giajax.clients import CLIENTS
from giajax.clients import fedavg
from giajax.data import base as data
from giajax.data import DATASETS
from giajax.defenses import base as defenses
from giajax.defenses import DEFENSES
from giajax.engine import schema
from giajax.metrics import base as metrics
from giajax.metrics import scoring
from giajax.models import base as models
from giajax.models import convert
from giajax.models import MODELS
from giajax.models import subset
from giajax.ops import convolution
from giajax.tasks import base as tasks
from giajax.tasks import TASKS

default_config = schema.default_config


class System(NamedTuple):
  """A federated system, before anybody looks at it.

  Attributes:
    dataset: where the clients' images come from.
    task: what the network learns.
    net: the network that the clients train.
    viewer: makes it for looking at images once, when scoring: with
      convolutions that compile fast.
    client: what one of them computes, without the defence.
    defense: what protects it.
    altered: `(alter) -> Client`, the client of the network `alter(net)`.
  """

  dataset: data.Dataset
  task: tasks.Task
  net: models.Net
  viewer: Callable[[], models.Net]
  client: clients.Client
  defense: defenses.Defense
  altered: Callable[[Callable[[models.Net], models.Net]], clients.Client]


class Setup(NamedTuple):
  """One static setting, ready to run.

  Attributes:
    dataset: where the client's images come from.
    net: the network that the clients agreed to train.
    viewer: makes the same network for looking at images once, when scoring:
      with convolutions that compile fast.
    client: what the clients really compute, defence included, on the network
      that they are given.
    defense: what protects them.
    attack: what the server runs.
    world: the attacker's picture of a system that it has not altered.
    variables: the weights of the agreed network.
    message: what the server sends before its attack has a say.
    granted: what the attacker is given.
    scorers: of `metrics.scoring.scorers`.
  """

  dataset: data.Dataset
  net: models.Net
  viewer: Callable[[], models.Net]
  client: clients.Client
  defense: defenses.Defense
  attack: attacks.Attack
  world: worlds.World
  variables: types.Variables
  message: types.ServerMessage
  granted: frozenset[str]
  scorers: Mapping[str, metrics.Score]


def resolve(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a config with every default filled in.

  Raises:
    ValueError: a key that does not exist, or a value of another kind.
  """
  resolved = schema.resolve(config)
  registry.lookup(
    {'auto': None, **convolution.LOWERINGS},
    resolved['run']['lowering'],
    'run.lowering',
  )
  return resolved


def setup(resolved: Mapping[str, Any]) -> Setup:
  """Builds everything that one point of an experiment needs.

  Args:
    resolved: a config as `resolve` returns it, without sweep.

  Raises:
    ValueError: an unknown name or argument, an impossible combination, or an
      attack that needs more than was granted.
  """
  cases = resolved['cases']
  count, parties = cases['batch_size'], cases['clients']
  if count % parties:
    raise ValueError(
      'Expected a cases.batch_size that the clients share equally; got '
      f'cases.batch_size={count}, cases.clients={parties}; change one of them'
    )
  share = count // parties
  made = system(resolved, share)
  granted = threat.grants(
    resolved['threat']['level'], resolved['threat']['grants']
  )
  believed, needs = _belief(resolved['belief'], made, share)
  if 'defense' in granted:
    believed = made.defense.on_belief(believed)
  believed = aggregate.aggregate(believed, parties)
  world = worlds.World(made.net, made.task, believed, count)
  attack = _attack(resolved, world)
  attack = attack._replace(needs=attack.needs | needs)
  name = resolved['attack']['name']
  threat.require(attack.needs, granted, f'attack {name!r}')
  weights = resolved['weights']
  agreed = variables(made.net, weights, resolved['seed'])
  client, message = _given(made, attack, agreed, resolved['seed'])
  return Setup(
    dataset=made.dataset,
    net=made.net,
    viewer=made.viewer,
    client=aggregate.aggregate(defenses.protect(client, made.defense), parties),
    defense=made.defense,
    attack=attack,
    world=world,
    variables=agreed,
    message=message,
    granted=granted,
    scorers=scoring.scorers(
      resolved,
      metrics.Audited(
        image_shape=made.net.spec.image_shape,
        net=client.net,
        viewer=made.viewer,
        task=made.task,
        merge=attack.merge,
        clients=parties,
      ),
    ),
  )


def system(resolved: Mapping[str, Any], num_images: int) -> System:
  """Builds the parts of a config that are there without an attacker.

  Args:
    resolved: a config as `resolve` returns it, without sweep.
    num_images: of one client.

  Raises:
    ValueError: an unknown name or argument, or a value out of range.
  """
  images = dataset(resolved['dataset'])
  classes = images.num_classes
  task = _make(TASKS, resolved['task'], 'task', num_classes=classes)
  defense = _make(DEFENSES, resolved['defense'], 'defense', num_classes=classes)

  def network(lowering, alter=None):
    net = model(
      resolved['model'],
      image_shape=images.image_shape,
      num_classes=classes,
      lowering=lowering,
    )
    net = defense.on_net(net)
    net = net if alter is None else alter(net)
    return subset.subset(net, **resolved['trainable'])

  def client(alter=None):
    net = network(resolved['run']['lowering'], alter)
    given = {'net': net, 'task': task, 'num_images': num_images}
    return _make(CLIENTS, resolved['client'], 'client', **given)

  agreed = client()
  viewer = functools.partial(network, 'lax')
  return System(images, task, agreed.net, viewer, agreed, defense, client)


def dataset(entry: Mapping[str, Any]) -> data.Dataset:
  """Returns the data set of a config's entry.

  Raises:
    ValueError: an unknown name or argument, or images that cannot be read.
  """
  return _make(DATASETS, entry, 'dataset')


def variables(
  net: models.Net, weights: Mapping[str, Any], seed: int
) -> types.Variables:
  """Returns the weights of a config: those of its file, or fresh ones.

  Args:
    net: the network.
    weights: the config's entry.
    seed: of fresh ones.

  Raises:
    ValueError: a file that is missing, damaged or of another network.
  """
  fresh = net.init(keys.named(jax.random.key(seed), 'model'))
  if not weights['path']:
    return fresh
  return convert.load(
    weights['path'], net, rename=weights['rename'], adapters=fresh
  )


def model(entry: Mapping[str, Any], **given: Any) -> models.Net:
  """Returns the network of a config's entry.

  Args:
    entry: a name in `MODELS` and arguments of that row.
    **given: further arguments, left out where the row does not take them.

  Raises:
    ValueError: an unknown name or argument, or a value out of range.
  """
  return _make(MODELS, entry, 'model', **given)


def hparams(
  resolved: Mapping[str, Any], attack: attacks.Attack
) -> dict[str, np.float32]:
  """Returns the attack's traced knobs with the config's values, as float32.

  Raises:
    ValueError: a knob that the attack does not have, or a value that is no
      number.
  """
  given = resolved['hparams']
  for name in given:
    schema.known(name, attack.hparams, 'hparams')
  return {
    name: schema.number(given.get(name, default), f'hparams.{name}')
    for name, default in attack.hparams.items()
  }


def _attack(resolved, world):
  attack = _make(ATTACKS, resolved['attack'], 'attack', world=world)
  rule = resolved['labels']
  if rule == 'granted':
    return attack
  make = registry.lookup({'granted': None, **labels.RULES}, rule, 'label rule')
  if 'labels' not in attack.needs:
    raise ValueError(
      "Expected labels='granted' for an attack that finds its own; got "
      f'labels={rule!r} with attack={resolved["attack"]["name"]!r}; leave '
      'labels out'
    )
  return compose.with_labels(attack, make(world))


def _belief(entry, made, num_images):
  """Returns what the server takes the client for, and what it must know."""
  table = {
    'same': lambda: made.client,
    'one_gradient': functools.partial(fedavg.fedavg, learning_rate=1.0),
    **CLIENTS,
  }
  given = {'net': made.net, 'task': made.task, 'num_images': num_images}
  believed = _make(table, entry, 'belief', **given)
  knows = believed is made.client and made.client.local_steps > 1
  return believed, frozenset({'client_hparams'} if knows else ())


def _given(made, attack, agreed, seed):
  """Returns the client that trains what the server gives it, and that."""
  if attack.on_net is None:
    return made.client, types.ServerMessage(agreed)
  client = made.altered(attack.on_net)
  fresh = client.net.init(keys.named(jax.random.key(seed), 'model'))
  old, new = (
    types.Variables(*map(trees.named_leaves, v)) for v in (agreed, fresh)
  )
  given = types.Variables(*(trees.nested({**n, **o}) for n, o in zip(new, old)))
  return client, types.ServerMessage(given)


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
  schema.check_argument(entry['name'], str, f'{kind}.name')
  factory = registry.lookup(table, entry['name'], kind)
  parameters = inspect.signature(factory).parameters
  allowed = [p for p in parameters if p not in given]
  for name, value in kwargs.items():
    schema.known(name, allowed, f'{kind} ({entry["name"]})')
    schema.check_argument(value, parameters[name].annotation, f'{kind}.{name}')
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
