"""Honest models, fresh and trained, and what a client's checks say of them.

Used by the commands `thresholds` and `detection`, with the flags that both
take; nothing to run by itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import csv
import json
import pathlib
from typing import Any, NamedTuple

from absl import flags
import jax
import numpy as np

from giajax import keys
from giajax import registry
from giajax import types
from giajax.clients import fedsgd
from giajax.data import base as data
from giajax.data import DATASETS
from giajax.engine import build
from giajax.models import base as models
from giajax.models import convert
from giajax.models import inspect
from giajax.tasks import classification
from giajax.verify import base
from giajax.verify import VERIFIERS

# Shrunk where that leaves the kind of network.
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
}
# Checks of what changed since the weights that were accepted last, and the
# rounds between: of a client that takes so many steps.
_OF_CHANGE = frozenset(('update_distance', 'update_rank'))
_STEPS, _RATE, _LOCAL = (1, 5, 20), 0.01, 16


class Honest(NamedTuple):
  """A network, weights of it, and the data that it is for."""

  name: str
  kind: str  # 'fresh' or 'trained'
  entry: Mapping[str, Any]  # of a config's model
  net: models.Net
  dataset: data.Dataset
  paths: tuple[str, ...]  # of weights; '' for fresh ones, of seeds in order


def options(*, seeds: int) -> flags.FlagValues:
  """Returns the flags that both commands take, for each to add its own.

  Args:
    seeds: the default of --seeds.
  """
  own = flags.FlagValues()  # modules of `launch` do not share flags
  for name, words in {
    'data_dir': 'Of tfds, with CIFAR-10.',
    'trained': 'Folder of `giajax train`.',
  }.items():
    flags.DEFINE_string(name, '', words, flag_values=own)
  flags.DEFINE_integer('seeds', seeds, 'Of each.', 1, flag_values=own)
  flags.DEFINE_integer(
    'probe', 16, 'Images of a client.', base.LEAST_PROBE, flag_values=own
  )
  flags.DEFINE_list(
    'networks', None, 'Fresh ones; all if not given.', flag_values=own
  )
  return own


def parse(
  values: flags.FlagValues,
  argv: Sequence[str],
  lists: Mapping[str, tuple[str, Mapping[str, Any]]],
) -> str:
  """Parses a command line; returns what is wrong with it, '' if nothing.

  Args:
    values: see `options`.
    argv: of the program.
    lists: by a flag that lists names, what they are of, and the table.
  """
  try:
    rest = values(argv)[1:]
    if rest:
      return f'Expected known flags; got {" ".join(rest)}'
    known = {'networks': ('network', FRESH), **lists}
    for flag, (kind, table) in known.items():
      for name in values[flag].value or ():
        registry.lookup(table, name, kind)
  except flags.Error as error:
    return f'Expected known flags; got {error}'
  except ValueError as error:
    return str(error)
  return ''


def entry(data_dir: str) -> dict[str, Any]:
  """Returns a config's entry: CIFAR-10's test images, or photographs."""
  if not data_dir:
    return dict(name='photographs', size=32)
  return dict(name='tfds', dataset='cifar10', split='test', data_dir=data_dir)


def fresh(
  images: data.Dataset, names: Sequence[str], seeds: int
) -> Iterator[Honest]:
  """Yields rows of the zoo with weights as they are drawn."""
  for name in names:
    yield _honest(name, 'fresh', FRESH[name], images, [''] * seeds)


def trained(folder: str, images: data.Dataset) -> Iterator[Honest]:
  """Yields what `giajax train` left in a folder: FILE.npz and FILE.json.

  Files of one model and one run, FILE and FILE-epochE, are one Honest.
  """
  groups: dict[str, list[pathlib.Path]] = {}
  for path in sorted(pathlib.Path(folder).glob('*.npz')):
    groups.setdefault(path.stem.partition('-epoch')[0], []).append(path)
  for name, paths in groups.items():
    facts = json.loads(paths[0].with_suffix('.json').read_text())
    yield _honest(name, 'trained', facts['config']['model'], images, paths)


def published(folder: str, images: data.Dataset) -> Iterator[Honest]:
  """Yields the weights of other authors under shared/data/weights."""
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


def imagenet(folder: pathlib.Path) -> data.Dataset:
  """Returns photographs of 224 pixels with ImageNet's labels of a csv file."""
  found = DATASETS['folder'](path=folder, size=224)
  with open(folder / 'labels.csv', newline='') as file:
    classes = {
      pathlib.Path(row['file']).stem: int(row['class_idx'])
      for row in csv.DictReader(file)
    }
  return data.dataset(
    name='imagenet',
    image_shape=found.image_shape,
    class_names=tuple(map(str, range(1000))),
    labels=[classes[name] for name in found.class_names],
    note=found.note,
    read=lambda i: np.asarray(found.take([i]).x[0]),
  )


def _honest(name, kind, entry, images, paths) -> Honest:
  net = build.model(
    entry,
    image_shape=images.image_shape,
    num_classes=images.num_classes,
    lowering='lax',
  )
  return Honest(name, kind, entry, net, images, tuple(map(str, paths)))


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
  """Yields a row a check-up: scores, what is flagged, evidence, which model.

  Each is of one of the model's weights on one draw of images: the received ones
  as they are, and for checks of the change after an honest round from them.

  Args:
    honest: the model.
    probe: images.
    probes: draws of images for each of the weights.
    names: of checks.
    known_rate: whether the client knows rate times steps of the round.
  """
  task = classification.classification(honest.dataset.num_classes)
  view = base.view(honest.net, task)
  played = one_round(honest)
  for i in range(len(honest.paths)):
    before = variables(honest, i)
    for draw in range(probes):
      rng = np.random.default_rng((i, draw))
      order = rng.permutation(honest.dataset.size)
      batch = honest.dataset.take(order[:probe])
      message = types.ServerMessage(before)
      after = types.ServerMessage(played(before, rng, i + draw))
      rate = _RATE * steps(i + draw) if known_rate else None
      known = view._replace(accepted=before, learning_rate=rate)
      found = {}
      for name in names:
        sent = after if name in _OF_CHANGE else message
        check = VERIFIERS[name](known)
        # As `giajax verify` draws: not the key that a fresh model is of.
        key = keys.named(keys.at(jax.random.key(i), draw), name)
        found[name] = check(key, sent, batch)
      yield {
        'name': honest.name,
        'kind': honest.kind,
        'model': i,
        'draw': draw,
        # A network without the layer that a check is about says nothing.
        'scores': {n: v.score for n, v in found.items() if v.ran},
        'flagged': [n for n, v in found.items() if v.flagged],
        'evidence': {n: v.evidence for n, v in found.items()},
      }


def steps(turn: int) -> int:
  """Returns the steps of an honest round."""
  return _STEPS[turn % len(_STEPS)]


def one_round(
  honest: Honest,
) -> Callable[[types.Variables, np.random.Generator, int], types.Variables]:
  """Returns `(variables, rng, turn) -> variables` after an honest round.

  It takes 1, 5 or 20 steps by turns, on random images of the model's data. One
  function compiles once.
  """
  net, images = honest.net, honest.dataset
  task = classification.classification(images.num_classes)
  client = fedsgd.fedsgd(net, task, train_mode=inspect.has_batch_norm(net))

  @jax.jit
  def step(variables, batch, key):
    sent, _ = client.update(key, types.ServerMessage(variables), batch)
    params = jax.tree.map(
      lambda p, g: p - _RATE * g, variables.params, sent.delta
    )
    return variables._replace(params=params, stats=sent.stats)

  def played(variables, rng, turn):
    for s in range(steps(turn)):
      count = min(_LOCAL, images.size)
      taken = rng.choice(images.size, count, replace=False)
      key = keys.at(jax.random.key(turn), s)
      variables = step(variables, images.take(taken), key)
    return variables

  return played
