"""The parts of a config that exist without an attacker.

A family's entry is a dict with `name` and the keyword arguments of that row's
factory.
"""

from collections.abc import Mapping
import functools
from typing import Any

import jax

from giajax import keys
from giajax import trees
from giajax import types
from giajax.clients import base as clients
from giajax.clients import CLIENTS
from giajax.data import base as data
from giajax.data import DATASETS
from giajax.defenses import base as defenses
from giajax.defenses import DEFENSES
from giajax.engine import experiment as records
from giajax.engine import factories
from giajax.engine import tensors
from giajax.models import base as models
from giajax.models import MODELS
from giajax.models import subset
from giajax.tasks import base as tasks
from giajax.tasks import TASKS


def system(
  resolved: Mapping[str, Any],
  num_images: int | None = None,
  images: data.Dataset | None = None,
) -> records.System:
  """Builds the parts of a config that exist without an attacker.

  Args:
    resolved: a config as `resolve` returns it, without sweep.
    num_images: of one client; the whole batch of a case by default.
    images: the data set that it names, where that is built already.

  Raises:
    ValueError: an unknown name or argument, or a value out of range.
  """
  images = images or dataset(resolved['dataset'])
  num_images = num_images or resolved['cases']['batch_size']
  classes = images.num_classes
  task = task_of(resolved['task'], images)
  defense = _defense(resolved['defense'], classes, task)

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
    parts = {'net': net, 'task': task, 'num_images': num_images}
    return factories.make(CLIENTS, resolved['client'], 'client', **parts)

  agreed = client()
  _check_passes(task, agreed)
  viewer = functools.partial(network, 'lax')
  return records.System(
    images, task, agreed.net, viewer, agreed, defense, client
  )


def share(resolved: Mapping[str, Any]) -> int:
  """Returns the number of images of one client.

  Raises:
    ValueError: the clients cannot share a batch equally.
  """
  count, parties = (resolved['cases'][k] for k in ('batch_size', 'clients'))
  if count % parties:
    raise ValueError(
      'Expected a cases.batch_size that the clients share equally; got '
      f'cases.batch_size={count}, cases.clients={parties}; change one of them'
    )
  return count // parties


def dataset(entry: Mapping[str, Any], kind: str = 'dataset') -> data.Dataset:
  """Returns the data set of a config's entry.

  Args:
    entry: a name in `DATASETS` and arguments of that row.
    kind: the key of the entry, for the message.

  Raises:
    ValueError: an unknown name or argument, or images that cannot be read.
  """
  return factories.make(DATASETS, entry, kind)


def variables(
  net: models.Net, weights: Mapping[str, Any], seed: int
) -> types.Variables:
  """Returns the weights of a config: those of its file, or fresh ones.

  Args:
    net: the network.
    weights: the config's entry.
    seed: the seed of fresh weights.

  Raises:
    ValueError: a file that is missing, damaged or of another network.
  """
  fresh = net.init(keys.named(jax.random.key(seed), 'model'))
  if not weights['path']:
    return trees.widened(fresh)
  read = tensors.read(
    weights['path'],
    net,
    'weights.path',
    order=net.names,
    rename=weights['rename'],
    adapters=fresh,
  )
  return read.variables


def model(entry: Mapping[str, Any], **parts: Any) -> models.Net:
  """Returns the network of a config's entry.

  Args:
    entry: a name in `MODELS` and arguments of that row.
    **parts: further arguments, left out where the row does not take them.

  Raises:
    ValueError: an unknown name or argument, or a value out of range.
  """
  net = factories.make(MODELS, entry, 'model', **parts)
  if not isinstance(net, models.Net):
    raise ValueError(
      f'Expected a Net from model.name={entry["name"]!r}; got '
      f'{type(net).__name__}; make one by giajax.from_stateful or its like'
    )
  return net


def task_of(entry: Mapping[str, Any], images: data.Dataset) -> tasks.Task:
  """Returns the task of a config's entry, for the targets of a data set.

  Args:
    entry: a name in `TASKS` and arguments of that row.
    images: the data set.

  Raises:
    ValueError: an unknown name or argument, or no task.
  """
  task = factories.make(
    TASKS,
    entry,
    'task',
    num_classes=images.num_classes,
    image_shape=images.image_shape,
  )
  if not isinstance(task, tasks.Task):
    raise ValueError(
      f'Expected a Task from task.name={entry["name"]!r}; got '
      f'{type(task).__name__}; return a giajax.tasks.base.Task, or name a '
      'function loss(out, y)'
    )
  return task


def _check_passes(task: tasks.Task, client: clients.Client) -> None:
  """Requires one pass of a client of which something is to be granted."""
  names = [name for name, fact in task.facts.items() if fact.of_pass]
  if names and client.local_steps > 1:
    raise ValueError(
      f'Expected a client of one local step for task.{names[0]}, which is that '
      f'of its one pass; got {client.local_steps} steps; set client.name='
      "'fedsgd'"
    )


def _defense(entry, num_classes, task) -> defenses.Defense:
  """Returns a defence, or several that are applied in order."""
  entries = entry if isinstance(entry, list) else [entry]
  chain = [
    factories.make(DEFENSES, one, 'defense', num_classes=num_classes, task=task)
    for one in entries
  ]
  return chain[0] if len(chain) == 1 else defenses.chain(*chain)
