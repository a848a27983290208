"""What a setting costs a client: time, size, distortion, and accuracy."""

from collections.abc import Callable, Mapping
import functools
import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from giajax import keys
from giajax import trees
from giajax import types
from giajax.clients import base as clients
from giajax.defenses import base as defenses
from giajax.engine import build
from giajax.engine import lessons
from giajax.engine import systems
from giajax.engine import train
from giajax.engine.sources import simulated
from giajax.models import base as models
from giajax.results import records

_ROUNDS = (5, 100)  # rounds of timing, at least and at most
_SECONDS = 2.0  # the seconds after which it stops
_BATCH_SIZE = 128  # of training, where there are as many images


class CompiledClient(NamedTuple):
  """One client of a setting, ready to compute its update.

  Attributes:
    update: a function that computes its update; the program is compiled.
    images: the number of images behind the update.
    parameters: the number of parameters that the client trains.
    fidelity: the cosine between the update and the one without a defence.
  """

  update: Callable[[], types.Update]
  images: int
  parameters: int
  fidelity: float


def client(config: Mapping[str, Any]) -> CompiledClient:
  """Returns the first client of a resolved config without a sweep."""
  share = config['cases']['batch_size'] // config['cases']['clients']
  # Other lowerings are for second derivatives.
  run = {**config['run'], 'lowering': 'lax'}
  plain: dict[str, Any] = {**config, 'run': run}
  system, setup = systems.system(plain, share), build.setup(plain)
  batch = simulated.item(setup, 0).batch
  batch = jax.tree.map(lambda leaf: leaf[:share], batch)
  key = jax.random.key(setup.seed)
  message = types.ServerMessage(setup.variables)
  protected = defenses.protect(system.client, system.defense)
  update = _compiled(protected, key, message, batch)
  own = keys.named(key, 'client')  # as the protected client draws
  bare = _compiled(system.client, own, message, batch)
  return CompiledClient(
    update=update,
    images=share,
    parameters=models.count(setup.variables),
    fidelity=float(_cosine(update().delta, bare().delta)),
  )


def facts(own: CompiledClient, audited: CompiledClient) -> dict[str, Any]:
  """Returns what a client costs compared with the audited one, for advice.json.

  Both are timed in turn, so that other work on the machine slows both.
  """
  seconds, usual = time_in_turn(own.update, audited.update)
  return {
    'seconds_per_image': seconds / own.images,
    'audited_seconds_per_image': usual / audited.images,
    'parameters': own.parameters,
    'fidelity': own.fidelity,
  }


def time_in_turn(*calls: Callable[[], Any]) -> list[float]:
  """Returns the median seconds of each call over warm rounds of all of them."""
  for call in calls:
    jax.block_until_ready(call())
  rounds, began = [], time.perf_counter()
  least, most = _ROUNDS
  while len(rounds) < least or (
    len(rounds) < most and time.perf_counter() - began < _SECONDS
  ):
    rounds.append([_seconds(call) for call in calls])
  return np.median(rounds, axis=0).tolist()


def accuracy(
  config: Mapping[str, Any], epochs: int, folder: pathlib.Path
) -> float:
  """Returns the accuracy of a network trained under a config, in [0, 1].

  Args:
    config: the resolved config, without a sweep.
    epochs: the epochs of training.
    folder: the folder next to which the weights and their facts are written;
      existing ones are reused.
  """
  path = folder.with_name(f'{folder.name}-{epochs}-epochs.npz')
  record = path.with_suffix('.json')
  if not record.is_file():
    path.parent.mkdir(parents=True, exist_ok=True)
    size = systems.dataset(config['dataset']).size
    recipe = lessons.Recipe(epochs=epochs, batch_size=min(_BATCH_SIZE, size))
    train.train_config(config, str(path), recipe)
  again = 'remove it and run giajax advise again'
  return records.read(record, {'accuracy': float}, again)['accuracy']


def _compiled(
  client: clients.Client, *arguments: Any
) -> Callable[[], types.Update]:
  # Arguments, because XLA evaluates what a program closes over as it compiles.
  update = jax.jit(lambda *a: client.update(*a)[0])
  return functools.partial(update, *arguments)


def _seconds(call: Callable[[], Any]) -> float:
  began = time.perf_counter()
  jax.block_until_ready(call())
  return time.perf_counter() - began


def _cosine(a: types.Tree, b: types.Tree) -> types.Array:
  norms = trees.squared_norm(a) * trees.squared_norm(b)
  return trees.dot(a, b) / trees.safe_sqrt(norms, 1e-38)
