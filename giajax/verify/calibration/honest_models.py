"""Honest models, fresh and trained, and what the checks say about them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import csv
import functools
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import keys
from giajax import types
from giajax.clients import fedavg
from giajax.data import base as data
from giajax.data import DATASETS
from giajax.engine import systems
from giajax.models import base as models
from giajax.models import convert
from giajax.models import DETECTORS
from giajax.models import inspect
from giajax.verify import base
from giajax.verify import VERIFIERS

# Rows of the zoo, shrunk if that does not change the kind of network.
FRESH: dict[str, dict[str, Any]] = {
  'mlp': dict(name='mlp'),
  'mlp_small': dict(name='mlp', widths=(64,)),
  'mlp_wide': dict(name='mlp', widths=(1000,)),
  'mlp_deep': dict(name='mlp', widths=(128, 64)),
  'lenet': dict(name='lenet'),
  'lenet_relu': dict(name='lenet_relu', init='torch'),
  'convnet': dict(name='convnet', width=8),
  'alexnet': dict(name='alexnet', width=0.25),
  'vgg11': dict(name='vgg11', width=0.25),
  'vgg11_bn': dict(name='vgg11_bn', width=0.25),
  'resnet20': dict(name='resnet20'),
  'resnet18': dict(name='resnet18', width=0.25),
  'preact_resnet18': dict(name='preact_resnet18', width=0.25),
  'googlenet': dict(name='googlenet', width=0.25, blocks=(1, 1, 1)),
  'densenet': dict(name='densenet121', blocks=(2, 2), growth=8),
  'mobilenet_v2': dict(name='mobilenet_v2', width=0.5, depth=2),
  'mobilenet_v3': dict(name='mobilenet_v3_small', width=0.5),
  'vit': dict(name='vit_tiny', depth=2),
  'convnext': dict(name='convnext_tiny', width=24, depths=(1, 1, 1, 1)),
  # Detectors.
  'yolov8n': dict(name='yolov8n'),
  'yolov8n_narrow': dict(name='yolov8n', width=0.0625),
  'yolov8n_deep': dict(name='yolov8n', width=0.125, depth=1.0),
  'basicblock': dict(name='yolov8n_basicblock'),
  'basicblock_before': dict(
    name='yolov8n_basicblock', width=0.125, placement='before'
  ),
}
_SHAPES = dict(name='shapes', size=64, count=256)
# Checks of what changed since the weights that were accepted last.
_OF_CHANGE = frozenset(('update_distance', 'update_rank'))
# The honest rounds in between: steps in turn, learning rate, images per step.
_STEPS, _RATE, _LOCAL = (1, 5, 20), 0.01, 16


class Honest(NamedTuple):
  """A network with honest weights, and the data that it is meant for.

  Attributes:
    name: the name of the network, or of the file.
    kind: 'fresh' or 'trained'.
    entry: the model's entry in a config.
    net: the network.
    task: the entry of its task in a config.
    dataset: the data set of its images.
    paths: the paths of the weights, one per model; '' for fresh ones of seeds
      0, 1, ...
  """

  name: str
  kind: str
  entry: Mapping[str, Any]
  net: models.Net
  task: Mapping[str, Any]
  dataset: data.Dataset
  paths: tuple[str, ...]


def entry(data_dir: str) -> dict[str, Any]:
  """Returns a config's dataset entry: CIFAR-10's test images, or photographs.

  Args:
    data_dir: the `data_dir` of tfds, with CIFAR-10; '' for photographs of 32 x
      32 pixels.
  """
  if not data_dir:
    return dict(name='photographs', size=32)
  return dict(name='tfds', dataset='cifar10', split='test', data_dir=data_dir)


def dataset_entry(model: Mapping[str, Any], data_dir: str) -> dict[str, Any]:
  """Returns a config's dataset entry for the images of a network.

  Args:
    model: the network's entry in a config.
    data_dir: as for `entry`; detectors have drawn shapes.
  """
  return _SHAPES if _detects(model) else entry(data_dir)


def fresh(
  images: data.Dataset, names: Sequence[str], seeds: int
) -> Iterator[Honest]:
  """Yields rows of the zoo with freshly drawn weights."""
  for name in names:
    row = FRESH[name]
    yield _honest(name, 'fresh', row, _images(row, images), [''] * seeds)


def trained(folder: str, images: data.Dataset) -> Iterator[Honest]:
  """Yields what `giajax train` left in a folder: FILE.npz and FILE.json.

  FILE and FILE-epochE, of one run, are weights of one Honest.
  """
  groups: dict[str, list[pathlib.Path]] = {}
  for path in sorted(pathlib.Path(folder).glob('*.npz')):
    groups.setdefault(path.stem.partition('-epoch')[0], []).append(path)
  for name, paths in groups.items():
    facts = json.loads(paths[0].with_suffix('.json').read_text())
    row, task = facts['config']['model'], facts['config']['task']
    yield _honest(name, 'trained', row, _images(row, images), paths, task)


def published(folder: str, images: data.Dataset) -> Iterator[Honest]:
  """Yields the published weights that a folder has.

  Args:
    folder: a folder with cifar10_resnet/resnetN.npz, imagenet/mobilenet_v2.npz
      and yolo/yolov8n_state.npz, next to folders `imagenet` of photographs and
      `coco` of photographs with boxes.
    images: CIFAR-10, for the ResNets.
  """
  root = pathlib.Path(folder)
  for depth in (20, 32, 44, 56):
    path = root / 'cifar10_resnet' / f'resnet{depth}.npz'
    if path.is_file() and images.num_classes == 10:
      row = dict(name=f'resnet{depth}')
      yield _honest(f'resnet{depth}_cifar10', 'trained', row, images, [path])
  path = root / 'imagenet' / 'mobilenet_v2.npz'
  photographs = root.parent / 'imagenet'
  if path.is_file() and photographs.is_dir():
    row, large = dict(name='mobilenet_v2'), imagenet(photographs)
    yield _honest('mobilenet_v2_imagenet', 'trained', row, large, [path])
  path = root / 'yolo' / 'yolov8n_state.npz'
  photographs = root.parent / 'coco'
  if path.is_file() and photographs.is_dir():
    row = dict(name='yolov8n')
    boxed = DATASETS['coco_folder'](path=photographs, size=256)
    yield _honest('yolov8n_coco', 'trained', row, boxed, [path])


def imagenet(folder: pathlib.Path) -> data.Dataset:
  """Returns photographs of 224 x 224 pixels with the classes of labels.csv."""
  photographs = DATASETS['folder'](path=folder, size=224)
  with open(folder / 'labels.csv', newline='') as file:
    classes = {
      pathlib.Path(row['file']).stem: int(row['class_idx'])
      for row in csv.DictReader(file)
    }
  return data.dataset(
    name='imagenet',
    image_shape=photographs.image_shape,
    class_names=tuple(map(str, range(1000))),
    labels=[classes[name] for name in photographs.class_names],
    note=photographs.note,
    read=lambda i: np.asarray(photographs.take([i]).x[0]),
  )


def _detects(model) -> bool:
  return model['name'] in DETECTORS


def _images(model, images) -> data.Dataset:
  """Returns the images of a network: those given, or shapes."""
  return systems.dataset(_SHAPES) if _detects(model) else images


def _honest(name, kind, entry, images, paths, task=None) -> Honest:
  net = systems.model(
    entry,
    image_shape=images.image_shape,
    num_classes=images.num_classes,
    lowering='lax',
  )
  task = task or dict(name='detection' if _detects(entry) else 'classification')
  return Honest(name, kind, entry, net, task, images, tuple(map(str, paths)))


def variables(honest: Honest, index: int) -> types.Variables:
  """Returns some of the weights of an honest model."""
  path = honest.paths[index]
  if path:
    return convert.load(path, honest.net)
  return honest.net.init(jax.random.key(index))


def scores(
  honest: Honest,
  *,
  probe: int,
  probes: int,
  names: Sequence[str],
  known_rate: bool = False,
) -> Iterator[dict[str, Any]]:
  """Yields a row per check-up of the weights of an honest model.

  The received weights are the model's own; for checks of the change, they are
  those after an honest round from the model's own. A row holds the name and
  kind of the model, the numbers of weights and of the draw, the scores of the
  checks that ran, the names of those that object, and the evidence.

  Args:
    honest: the model.
    probe: the number of images.
    probes: the number of draws of images for each of the weights.
    names: the names of checks.
    known_rate: whether the client knows the learning rate times the steps of
      the round.
  """
  view = base.view(honest.net, systems.task_of(honest.task, honest.dataset))
  after_round = one_round(honest)
  for model in range(len(honest.paths)):
    before = variables(honest, model)
    for draw in range(probes):
      rng = np.random.default_rng((model, draw))
      order = rng.permutation(honest.dataset.size)
      images = honest.dataset.take(order[:probe])
      message = later = types.ServerMessage(before)
      if _OF_CHANGE & {*names}:
        later = types.ServerMessage(after_round(before, rng, model + draw))
      rate = _RATE * steps(model + draw) if known_rate else None
      client_view = view._replace(accepted=before, learning_rate=rate)
      verdicts = {}
      for name in names:
        sent = later if name in _OF_CHANGE else message
        # As `giajax verify` draws, and not the key of a fresh model.
        key = keys.named(keys.at(jax.random.key(model), draw), name)
        verdicts[name] = VERIFIERS[name](client_view)(key, sent, images)
      yield {
        'name': honest.name,
        'kind': honest.kind,
        'model': model,
        'draw': draw,
        # A network without the layer that a check is about says nothing.
        'scores': {n: v.score for n, v in verdicts.items() if v.ran},
        'flagged': [n for n, v in verdicts.items() if v.flagged],
        'evidence': {n: v.evidence for n, v in verdicts.items()},
      }


def steps(turn: int) -> int:
  """Returns the number of steps of an honest round."""
  return _STEPS[turn % len(_STEPS)]


def one_round(
  honest: Honest,
) -> Callable[[types.Variables, np.random.Generator, int], types.Variables]:
  """Returns `(variables, rng, turn) -> variables` after an honest round.

  A client of FedAvg takes 1, 5 or 20 steps in turn, each on random images of
  the model's data, in training mode where there is BatchNorm.
  """
  images = honest.dataset
  size = min(_LOCAL, images.size)

  @functools.cache
  def update(count: int):
    client = fedavg.fedavg(
      honest.net,
      systems.task_of(honest.task, images),
      num_images=count * size,
      batch_size=size,
      learning_rate=_RATE,
      shuffle=False,
      train_mode=inspect.has_batch_norm(honest.net),
    )
    return jax.jit(client.update)

  def after_round(variables, rng, turn):
    count = steps(turn)
    indices = [
      rng.choice(images.size, size, replace=False) for _ in range(count)
    ]
    batch = images.take(np.concatenate(indices))
    message, key = types.ServerMessage(variables), jax.random.key(turn)
    sent, _ = update(count)(key, message, batch)
    params = jax.tree.map(jnp.add, variables.params, sent.delta)
    return variables._replace(params=params, stats=sent.stats)

  return after_round
