"""Training with the updates that an audit attacks.

In each step, one client draws a batch and computes its update under its
defence, and the server uses that as the gradient of SGD: without a defence, and
with the client `fedsgd`, this is plain minibatch SGD. The accuracy under a
defence is the accuracy of a network that this loop trained under it.
"""

from collections.abc import Callable
import json
import logging
import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm

from giajax import archives
from giajax import keys
from giajax import require
from giajax import trees
from giajax import types
from giajax.data import base as data
from giajax.defenses import base as defenses
from giajax.engine import build
from giajax.engine import experiment
from giajax.engine import provenance
from giajax.engine import sweep
from giajax.engine import workdir
from giajax.models import base as models
from giajax.models import convert

_EVALUATED = 250  # images per pass over the test set
_QUIET = 10.0  # seconds between two lines of progress
_log = logging.getLogger('giajax')


class Recipe(NamedTuple):
  """How long and how fast to train.

  Attributes:
    epochs: the number of passes over the training set, at least 1.
    batch_size: the number of images behind one update.
    learning_rate: the learning rate of the first step; it falls to 0 along a
      cosine.
    momentum: the momentum of SGD, in [0, 1).
    weight_decay: the weight decay of every parameter, >= 0.
    seed: the seed of the initial weights, the order of the images and all
      draws.
  """

  epochs: int = 1
  batch_size: int = 128
  learning_rate: float = 0.1
  momentum: float = 0.9
  weight_decay: float = 5e-4
  seed: int = 0


def train(
  system: experiment.System,
  recipe: Recipe,
  variables: types.Variables,
  on_epoch: Callable[[int, types.Variables], Any] = lambda *_: None,
) -> types.Variables:
  """Trains a network.

  Args:
    system: the system; its client takes `recipe.batch_size` images, and its
      data set is the training set.
    recipe: how long and how fast.
    variables: the variables to start from.
    on_epoch: a function that is called with the number of epochs done and the
      variables.

  Returns:
    The variables after the last step. What remains of an epoch when no whole
    batch is left is not used.

  Raises:
    ValueError: a recipe out of range, or weights that became NaN or infinite.
  """
  size = system.dataset.size
  _check(recipe)
  if recipe.batch_size > size:
    raise ValueError(
      f'Expected a batch_size of 1 to {size}, the training set; got '
      f'batch_size={recipe.batch_size}; lower it'
    )
  per_epoch = size // recipe.batch_size
  client = defenses.protect(system.client, system.defense)
  rate = optax.cosine_decay_schedule(
    recipe.learning_rate, recipe.epochs * per_epoch
  )
  optimizer = optax.chain(
    optax.add_decayed_weights(recipe.weight_decay),
    optax.sgd(rate, recipe.momentum),
  )

  @jax.jit
  def step(variables, memory, key, batch):
    sent, _ = client.update(key, types.ServerMessage(variables), batch)
    gradient = client.as_gradient(sent.delta)
    updates, memory = optimizer.update(gradient, memory, variables.params)
    params = optax.apply_updates(variables.params, updates)
    return variables._replace(params=params, stats=sent.stats), memory

  memory = optimizer.init(variables.params)
  root = keys.named(jax.random.key(recipe.seed), 'train')
  rng = np.random.default_rng(recipe.seed)
  for epoch in range(recipe.epochs):
    order = rng.permutation(size)[: per_epoch * recipe.batch_size]
    for s, indices in enumerate(order.reshape(per_epoch, -1)):
      key = keys.at(root, epoch, s)
      batch = system.dataset.take(indices)
      variables, memory = step(variables, memory, key, batch)
    if not trees.all_finite(variables):
      raise ValueError(
        f'Expected finite weights; got NaN or inf in epoch {epoch + 1} with '
        f'learning_rate={recipe.learning_rate}; lower it'
      )
    on_epoch(epoch + 1, variables)
  return variables


def accuracy(
  net: models.Net, variables: types.Variables, dataset: data.Dataset
) -> float:
  """Returns the share of a data set that a network classifies correctly.

  Args:
    net: the network, run in inference mode.
    variables: its weights.
    dataset: the test set.
  """

  @jax.jit
  def right(variables, batch, valid):
    output = net.apply(variables, batch.x, train=False, key=jax.random.key(0))
    return jnp.sum((jnp.argmax(output.out, -1) == batch.y) & valid)

  count, total = min(_EVALUATED, dataset.size), 0
  for first in range(0, dataset.size, count):
    indices = np.arange(first, first + count)
    batch = dataset.take(indices % dataset.size)  # the last pass is filled up
    total += int(right(variables, batch, indices < dataset.size))
  return total / dataset.size


def train_config(
  config: Any,
  out: str,
  recipe: Recipe,
  *,
  point: int | None = None,
  split: str = 'train',
  every: int = 0,
  command: str = '',
) -> str:
  """Trains the network of a config and writes its weights.

  Args:
    config: the config of an audit.
    out: the path of the npz file.
    recipe: how long and how fast.
    point: the point of the config's sweep, if it has one.
    split: the split of the data set to train on.
    every: the epochs between intermediate weights that are kept; 0 keeps none.
    command: the command line, for the record.

  Returns:
    What was written, in a line.

  Raises:
    ValueError: as `train` and `build.system`, no such point, or weights that
      cannot be read or written.
  """
  path = pathlib.Path(out)
  archives.check(path)
  _check(recipe)
  system, tested, start, changed = build.training(
    sweep.only(config, point).config,
    split=split,
    batch_size=recipe.batch_size,
    seed=recipe.seed,
  )
  began = time.perf_counter()

  def record(file, epochs, variables):
    archives.write(file, convert.to_state_dict(variables))
    facts = {
      'sha256': archives.sha256(file),
      'model': system.net.spec.name,
      'accuracy': accuracy(system.net, variables, tested),
      'tested_on': tested.name,
      'epochs': epochs,
      'training': recipe._asdict(),
      'config': changed,
      'command': command,
      'seconds': round(time.perf_counter() - began, 1),
      'device': provenance.device(),
      'versions': provenance.versions(),
    }
    text = json.dumps(facts, indent=2) + '\n'
    workdir.write_text(file.with_suffix('.json'), text)
    _log.info('epoch %d: %.2f %% right', epochs, 100 * facts['accuracy'])
    return facts

  last = began

  def on_epoch(epoch, variables):
    nonlocal last
    now = time.perf_counter()
    if now - last >= _QUIET and epoch < recipe.epochs:
      last = now
      left = (now - began) / epoch * (recipe.epochs - epoch)
      interval = tqdm.tqdm.format_interval(left)
      _log.info('epoch %d of %d, %s left', epoch, recipe.epochs, interval)
    if every and epoch % every == 0 and epoch < recipe.epochs:
      name = f'{path.stem}-epoch{epoch}.npz'
      record(path.with_name(name), epoch, variables)

  trained = train(system, recipe, start, on_epoch)
  facts = record(path, recipe.epochs, trained)
  return (
    f'{path}: {facts["model"]} after {recipe.epochs} epochs, '
    f'{facts["accuracy"]:.2%} of {facts["tested_on"]} right, '
    f'{facts["seconds"]:.0f} s'
  )


def _check(recipe: Recipe) -> None:
  require.whole(recipe.epochs, 'epochs')
  require.whole(recipe.batch_size, 'batch_size')
  require.whole(recipe.seed, 'seed', least=0)
  require.positive(recipe.learning_rate, 'learning_rate', advice='use 0.1')
  require.fraction(recipe.momentum, 'momentum', zero=True, one=False)
  require.not_negative(recipe.weight_decay, 'weight_decay')
