"""What training needs of a config: its system, around other images."""

from collections.abc import Mapping
from typing import Any

from giajax.engine import build
from giajax.engine import experiment as records
from giajax.engine import generators
from giajax.engine import identity
from giajax.engine import systems


def of_model(
  resolved: Mapping[str, Any], *, split: str, batch_size: int, seed: int
) -> records.Training:
  """Builds the system of a config for training it.

  Args:
    resolved: a config as `resolve` returns it, without sweep.
    split: the split of the data set to train on, if it has splits.
    batch_size: the number of images of one client.
    seed: the seed of fresh weights.

  Raises:
    ValueError: see `systems.system` and `systems.variables`.
  """
  own = resolved['dataset']
  taught = _taught(own, split)
  client = {**resolved['client'], 'train_mode': True}
  # Other lowerings are for second derivatives.
  lowering = resolved['run']['lowering']
  run = {'lowering': 'lax' if lowering == 'auto' else lowering}
  changed = {**resolved, 'dataset': taught, 'client': client, 'run': run}
  parts = systems.system(changed, batch_size)
  start = systems.variables(parts.net, resolved['weights'], seed)
  inputs = identity.inputs(changed, build.rows(changed))
  return records.Training(parts, systems.dataset(own), start, changed, inputs)


def of_generator(
  resolved: Mapping[str, Any], *, split: str
) -> records.GeneratorTraining:
  """Builds what training the generator of a config's attack needs.

  Args:
    resolved: a config as `resolve` returns it, without sweep.
    split: the split of the data set to train on, if it has splits and if there
      are no auxiliary data.

  Raises:
    ValueError: an attack without a trained generator; see
      `systems.system`, `systems.variables` and `generators.untrained`.
  """
  entry = resolved['attack']
  if 'generator' not in entry:
    raise ValueError(
      'Expected an attack with a generator, such as ggl with attack.generator, '
      f'to train one; got attack={entry}; name it'
    )
  taught = resolved['auxiliary'] or _taught(resolved['dataset'], split)
  changed = {**resolved, 'dataset': taught}
  parts = systems.system(changed, systems.share(resolved))
  world, _ = build.world_of(resolved, parts)
  weights = resolved['weights']
  agreed = systems.variables(parts.net, weights, resolved['seed'])
  return records.GeneratorTraining(
    generator=generators.untrained(entry['generator'], world, 'lax'),
    world=world,
    taught=parts.dataset,
    tested=systems.dataset(resolved['dataset']),
    net=parts.viewer(),
    variables=agreed,
    message=build.seen(resolved, agreed),
    victim=build.victim(resolved, agreed),
    net_is_trained=bool(weights['path']),
    config=changed,
    inputs=identity.inputs(changed, build.rows(changed)),
  )


def _taught(entry: Mapping[str, Any], split: str) -> dict[str, Any]:
  """Returns the entry of a training set."""
  return {**entry, 'split': split} if 'split' in entry else dict(entry)
