"""What training needs of a config: its system, around other images."""

from collections.abc import Mapping
from typing import Any

from giajax.data import DATASETS
from giajax.engine import build
from giajax.engine import experiment as records
from giajax.engine import factories
from giajax.engine import generators
from giajax.engine import identity
from giajax.engine import systems
from giajax.generative import base as generative
from giajax.models import inspect


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
  run = _run(resolved)
  changed = {**resolved, 'dataset': taught, 'client': client, 'run': run}
  parts = systems.system(changed, batch_size)
  start = systems.variables(parts.net, resolved['weights'], seed)
  tested, decides = systems.dataset(own), _decides(changed)
  return records.Training(parts, tested, start, changed, decides)


def of_generator(
  resolved: Mapping[str, Any], *, split: str
) -> records.GeneratorTraining:
  """Builds what training the generator of a config's attack needs.

  Args:
    resolved: a config as `resolve` returns it, without sweep.
    split: the split of the data set to train on, if it has splits and if there
      are no auxiliary data.

  Raises:
    ValueError: an attack without a trained generator; no images but those of
      the audit; see `build.attack_of`, `systems.system`, `systems.variables`,
      `generators.untrained` and `generators.check_classes`.
  """
  entry = resolved['attack']
  if 'generator' not in entry:
    raise ValueError(
      'Expected an attack with a generator, such as ggl with attack.generator, '
      f'to train one; got attack={entry}; name it'
    )
  own, named = resolved['dataset'], resolved['auxiliary']
  taught = named or _taught(own, split)
  if not named and taught == own:
    raise ValueError(
      'Expected other images than those of the audit to learn from; got '
      f'dataset={own} and no auxiliary; name them in auxiliary'
    )
  changed = {**resolved, 'dataset': taught, 'run': _run(resolved)}
  parts = systems.system(changed, systems.share(resolved))
  world, needs = build.world_of(changed, parts)
  generator = generators.untrained(entry['generator'], world, 'lax')
  abstract = inspect.abstract_variables(generator)
  unread = generative.Trained(generator, abstract, '')
  build.attack_of(resolved, world, needs, unread)
  tested = systems.dataset(own)
  generators.check_classes(generator, parts.dataset, tested)
  weights = resolved['weights']
  agreed = systems.variables(parts.net, weights, resolved['seed'])
  return records.GeneratorTraining(
    generator=generator,
    world=world,
    taught=parts.dataset,
    tested=tested,
    net=parts.viewer(),
    variables=agreed,
    message=build.seen(resolved, agreed),
    victim=build.victim(resolved, agreed),
    net_is_trained=bool(weights['path']),
    config=changed,
    decides=_decides(changed),
  )


def save_seconds(resolved: Mapping[str, Any]) -> float:
  """Returns the seconds between two checkpoints of a training."""
  return resolved['run']['save_seconds']


def _run(resolved: Mapping[str, Any]) -> dict[str, Any]:
  """Returns `run` for updates that nobody differentiates."""
  lowering = resolved['run']['lowering']
  # Other lowerings are for second derivatives.
  chosen = 'lax' if lowering == 'auto' else lowering
  return {**resolved['run'], 'lowering': chosen}


def _decides(changed: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what of a config decides the weights, images apart."""
  keys = ('model', 'weights', 'trainable', 'task', 'client', 'belief')
  kept = {key: changed[key] for key in (*keys, 'defense', 'precision', 'seed')}
  generator = changed['attack'].get('generator')
  if generator is not None:
    named = {'path', 'prefix', 'rename'}
    generator = {k: v for k, v in generator.items() if k not in named}
  kept['generator'] = generator
  kept['threat'] = {k: changed['threat'][k] for k in ('level', 'grants')}
  kept['cases'] = {k: changed['cases'][k] for k in ('batch_size', 'clients')}
  files = identity.inputs(kept, build.rows(changed))
  kept['weights'] = changed['weights']['rename']  # of a file, its content
  return {**kept, 'files': sorted(files.values())}


def _taught(entry: Mapping[str, Any], split: str) -> dict[str, Any]:
  """Returns the entry of a training set."""
  taken = factories.parameters(DATASETS, entry, 'dataset')
  if 'split' not in taken or split == entry.get(
    'split', taken['split'].default
  ):
    return dict(entry)
  return {**entry, 'split': split}
