"""Malicious servers, and what a client's checks say about what they send."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from giajax import threat
from giajax import trees
from giajax import types
from giajax.attacks import base as attacks
from giajax.clients import aggregate
from giajax.engine import build
from giajax.engine import exchange
from giajax.engine import experiment
from giajax.verify import base
from giajax.verify import checkup
from giajax.verify import VERIFIERS
from giajax.verify.calibration import honest_models

_ROUND = 1  # separates the draws of the honest round from others
_ANY = ('mlp', 'convnet', 'lenet_relu', 'resnet20')
_READERS = ('mlp', 'mlp_deep')
_DETECTORS = ('yolov8n', 'basicblock')


class Server(NamedTuple):
  """A malicious server as it is run.

  Attributes:
    attack: the attack's entry in a config.
    networks: the names in `honest_models.FRESH` that it is run on.
    clients: the number of clients whose aggregate it attacks.
    batch: the number of images per client.
    public: the number of images that the server has.
  """

  attack: Mapping[str, Any]
  networks: tuple[str, ...]
  clients: int = 1
  batch: int = 4
  public: int = 8


def _trap(strength: float) -> Server:
  attack = dict(name='trap_weights', strength=strength)
  return Server(attack, _READERS, batch=64, public=256)


# By the attack's name; the form of the attack follows after a colon.
SERVERS: dict[str, Server] = {
  'fishing': Server(dict(name='fishing'), ('convnet', 'resnet20')),
  'loki': Server(dict(name='loki', bins=64), _ANY, 2),
  'loki: detectors': Server(dict(name='loki', bins=64), _DETECTORS, 2),
  'mkor': Server(dict(name='mkor'), _READERS),
  'robbing_the_fed': Server(dict(name='robbing_the_fed', bins=128), _ANY),
  'robbing_the_fed: detectors': Server(
    dict(name='robbing_the_fed', bins=128), _DETECTORS
  ),
  'robbing_the_fed: order': Server(
    dict(name='robbing_the_fed', bins=128, hide='order'), _ANY
  ),
  'robbing_the_fed: sparse': Server(
    dict(name='robbing_the_fed', bins=128, form='sparse'), _ANY
  ),
  'robbing_the_fed: weights': Server(
    dict(name='robbing_the_fed', bins=128, form='sparse', hide='weights'), _ANY
  ),
  # A small batch comes back from agreed weights as well, so weakened trap
  # weights are run on a batch that does not.
  'trap_weights: batch of 4': Server(dict(name='trap_weights'), _READERS),
  'trap_weights': _trap(1.0),
  'trap_weights: half strength': _trap(0.5),
  'trap_weights: tenth strength': _trap(0.1),
  'trap_weights: hundredth strength': _trap(0.01),
}
# Attacks whose server sends what was agreed: there is nothing to detect.
HONEST = frozenset(
  (
    'april',
    'april_optimisation',
    'beyond_inferring',
    'ci_net',
    'cocktail_party',
    'dimitrov',
    'dlg',
    'estimate',
    'fgla',
    'ggl',
    'ggl_adam',
    'gias',
    'gifd',
    'grad_inversion',
    'grnn',
    'huang',
    'idlg',
    'inverting_gradients',
    'linear_layer',
    'lora_generator',
    'lti',
    'modern',
    'multiscale',
    'partial_matching',
    'r_gap',
    'running',
    'sapag',
    'spear',
    'wei',
  )
)


def unlisted(table: Mapping[str, Any]) -> list[str]:
  """Returns the attacks of a table that neither SERVERS nor HONEST names."""
  names = HONEST | {server.attack['name'] for server in SERVERS.values()}
  return sorted(set(table) - names)


def verdicts(
  server: Server,
  model: honest_models.Honest,
  *,
  seeds: int,
  rounds: int,
  probe: int,
  data_dir: str,
) -> Iterator[dict[str, base.Verdict]]:
  """Yields the verdicts on what a server sends, by check, for each seed.

  For an attack of several rounds, a check counts with its highest score.

  Args:
    server: the malicious server.
    model: the model whose weights, the last of them if trained, the server
      starts from.
    seeds: the number of batches, and of weights if fresh.
    rounds: the number of rounds of the attack, at most.
    probe: the number of images of the client.
    data_dir: as for `honest_models.entry`.

  Raises:
    ValueError: the attack alters nothing, or cannot be run.
  """
  view, images = None, model.dataset
  after_round = honest_models.one_round(model)
  for seed in range(seeds):
    config = build.resolve(_config(server, model, seed, data_dir))
    setup = build.setup(config)
    if attacks.is_honest(setup.attack):
      raise ValueError(
        f'Expected a server that alters something; got {dict(server.attack)}; '
        'move it to HONEST'
      )
    if view is None:  # one compiled program for all seeds
      view = base.view(setup.net, setup.world.task)
    client_view = view._replace(accepted=setup.variables)
    rng = np.random.default_rng((seed, _ROUND))
    setup = _moved(setup, after_round(setup.variables, rng, seed))
    batch = setup.cases.indices(setup.dataset, 0)
    free = np.setdiff1d(np.arange(images.size), batch)
    own = np.random.default_rng(seed).permutation(free)[:probe]
    count = min(rounds, setup.attack.num_rounds)
    checkups = [
      checkup.check(
        client_view, _to_client(message), images.take(own), seed=seed
      )
      for message in exchange.messages(setup, 0, count)
    ]
    yield {
      name: max(
        (c.verdicts[name] for c in checkups), key=lambda v: (v.ran, v.score)
      )
      for name in VERIFIERS
    }


def _moved(
  setup: experiment.Setup, variables: types.Variables
) -> experiment.Setup:
  """Returns an experiment whose server has moved on to other weights."""
  message = attacks.put(setup.message, trees.named_leaves(variables.params))
  stats = trees.named_leaves(variables.stats)
  sent = message.variables
  sent = sent._replace(stats=trees.replaced(sent.stats, stats))
  return setup._replace(
    variables=variables, message=message._replace(variables=sent)
  )


def _to_client(message: types.ServerMessage) -> types.ServerMessage:
  """Returns what the first of the clients receives."""
  own = {name: leaf[0] for name, leaf in dict(message.each).items()}
  return aggregate.received(message, own)


def _config(
  server: Server, model: honest_models.Honest, seed: int, data_dir: str
) -> dict[str, Any]:
  return {
    'seed': seed,
    'dataset': honest_models.dataset_entry(model.entry, data_dir),
    'task': dict(model.task),
    'cases': {
      'batch_size': server.batch * server.clients,
      'clients': server.clients,
    },
    'model': dict(model.entry),
    'weights': {'path': model.paths[-1]},
    'attack': dict(server.attack),
    'threat': {
      'level': None,
      'grants': sorted(set(threat.GRANTS) - {'target', 'labels'}),
      'proxy_images': server.public,
    },
    'run': {'lowering': 'lax'},
  }
