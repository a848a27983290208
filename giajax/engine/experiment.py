"""The records that `build` makes of a config; nothing below it reads one.

An experiment is a list of cohorts. A cohort is one static setting and the
points of the sweep that share it: they differ only in traced knobs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from giajax import types
from giajax import world as worlds
from giajax.attacks import base as attacks
from giajax.clients import base as clients
from giajax.data import base as data
from giajax.data import cases as case_rules
from giajax.defenses import base as defenses
from giajax.generative import base as generative
from giajax.metrics import base as metrics
from giajax.models import base as models
from giajax.tasks import base as tasks


class Cases(NamedTuple):
  """Which images the clients hold; see `data.cases.indices`.

  Attributes:
    count: the number of cases per point, at least 1.
    batch_size: B, the number of images behind one update, of all clients
      together.
    clients: the number of clients whose updates are aggregated.
    rule: a name in `data.cases.RULES`.
    repeats: the argument of the rule 'repeated_label'.
    alpha: the argument of the rule 'dirichlet'.
    given: the indices of the rule 'given', [B], or None.
    objects: the least and the largest number of the rule 'objects'.
    seed: the seed of the draws.
  """

  count: int
  batch_size: int
  clients: int
  rule: str
  repeats: int
  alpha: float
  given: npt.ArrayLike | None
  objects: tuple[int, int]
  seed: int

  def indices(self, dataset: data.Dataset, case: int) -> np.ndarray:
    """Returns which images form the batch of a case, [B] int32.

    Raises:
      ValueError: the data set cannot fill the batch.
    """
    rules = {k: v for k, v in self._asdict().items() if k != 'count'}
    counts = dataset.objects
    return case_rules.indices(dataset.labels, case=case, counts=counts, **rules)


# The index of an image that is none of the data set's.
ELSEWHERE = -1


class Item(NamedTuple):
  """One update to be attacked: a case of a point, or its noise control."""

  case: int
  control: bool  # the update is replaced by noise of the same norms
  indices: np.ndarray  # [B] which images of the data set, or `ELSEWHERE`
  batch: Any  # types.Batch of host arrays, or None where nobody knows it


class Source(NamedTuple):
  """Where updates come from.

  Attributes:
    check: `(setup)`; raises a ValueError for cases that cannot be had.
    item: `(setup, case, control=False) -> Item`, which raises a ValueError for
      images that cannot be used.
    side: `(setup, item)`: what the server is granted to know about the data.
    update: what was received, or None where the clients are played.
    trained: whether the weights that were sent are trained, as somebody who
      knows says; None leaves it to a measurement on the data set.
    facts: what the report says about a received update; {} for none.
    hidden: grants that nobody can give, because the images are unknown.
  """

  check: Callable[[Any], None]
  item: Callable[..., Item]
  side: Callable[[Any, Item], Mapping[str, types.Array]]
  update: types.Update | None = None
  trained: bool | None = None
  facts: Mapping[str, Any] = {}
  hidden: frozenset[str] = frozenset()


class RunFlags(NamedTuple):
  """What may change the speed of a run, and its results by rounding only.

  Attributes:
    lowering: a name in `ops.convolution.LOWERINGS`, or 'auto'.
    restarts_per_batch: restarts that are vmapped together; 0 for automatic.
    cases_per_batch: updates that are attacked together; 0 for automatic.
    save_seconds: the seconds between two checkpoints.
    most_updates: the number of updates beyond which nothing runs.
  """

  lowering: str
  restarts_per_batch: int
  cases_per_batch: int
  save_seconds: float
  most_updates: int


class System(NamedTuple):
  """A federated system, before anybody looks at it.

  Attributes:
    dataset: where the clients' images come from.
    task: what the network learns.
    net: the network that the clients train.
    viewer: a function that makes the same network for looking at images once,
      when scoring, with convolutions that compile fast.
    client: what one client computes, without the defence.
    defense: what protects the client.
    altered: `(alter) -> Client`, the client of the network `alter(net)`.
  """

  dataset: data.Dataset
  task: tasks.Task
  net: models.Net
  viewer: Callable[[], models.Net]
  client: clients.Client
  defense: defenses.Defense
  altered: Callable[[Callable[[models.Net], models.Net]], clients.Client]


class Ground(NamedTuple):
  """What settings have in common whose attackers differ.

  Attributes:
    auxiliary: see `Setup`, as for `source`.
    system: the federated system, of one client's share of the images.
    variables: the weights that were agreed.
    source: where the updates come from.
  """

  auxiliary: data.Dataset | None
  system: System
  variables: types.Variables
  source: Source


class Setup(NamedTuple):
  """One static setting, ready to run.

  Attributes:
    source: where the updates come from.
    dataset: where the client's images come from.
    auxiliary: the images that the attacker, or who trained its generator,
      learned from, None for none that are named; `dataset` itself where the
      config names the same.
    net: the network that the clients agreed to train.
    viewer: a function that makes the same network for looking at images once,
      when scoring.
    client: what the clients really compute, defence included, on the network
      that they receive.
    defense: what protects them.
    attack: what the server runs.
    generator: the trained generator that the attack uses, or None.
    world: the attacker's picture of a system that it has not altered.
    variables: the weights of the agreed network.
    message: what the server sends before its attack alters it.
    granted: what the attacker is given.
    scorers: the metrics, as `metrics.scoring.scorers` returns them.
    attack_name: the row of `ATTACKS`.
    program: the name of the compiled program; settings with one name share it.
    cases: which images the clients hold.
    proxy_images: P, the number of images of the 'proxy_data' grant.
    seed: the seed of everything that is drawn.
    restarts: R, the number of restarts.
    records: the number of steps at which the objective is recorded.
    noise_controls: the number of cases whose update the attack also finds
      replaced by noise: the first ones of each point.
    products: the precision of the attack's matrix products, as
      `jax.default_matmul_precision` takes it.
    run: what changes the speed.
  """

  source: Source
  dataset: data.Dataset
  auxiliary: data.Dataset | None
  net: models.Net
  viewer: Callable[[], models.Net]
  client: clients.Client
  defense: defenses.Defense
  attack: attacks.Attack
  generator: generative.Trained | None
  world: worlds.World
  variables: types.Variables
  message: types.ServerMessage
  granted: frozenset[str]
  scorers: Mapping[str, metrics.Score]
  attack_name: str
  program: str
  cases: Cases
  proxy_images: int
  seed: int
  restarts: int
  records: int
  noise_controls: int
  products: str
  run: RunFlags


class Point(NamedTuple):
  """One point of the sweep.

  Attributes:
    index: the index among all points; the last swept key changes fastest.
    sweep: the values that it sets, by dotted key.
    hp: the attack's traced knobs, float32.
    config_hash: a hash of everything that decides its results.
  """

  index: int
  sweep: Mapping[str, Any]
  hp: Mapping[str, np.float32]
  config_hash: str


class Cohort(NamedTuple):
  """Points that share one static setting."""

  setup: Setup
  points: Sequence[Point]


class Training(NamedTuple):
  """A system that is trained.

  Attributes:
    system: the system, whose data set is the training set.
    tested: the data set that the audit uses.
    start: the weights to start from.
    config: the config that it was made of, for the record.
    decides: what of it decides the weights, images apart.
  """

  system: System
  tested: data.Dataset
  start: types.Variables
  config: Mapping[str, Any]
  decides: Mapping[str, Any]


class GeneratorTraining(NamedTuple):
  """What training the generator of an attack needs.

  Attributes:
    generator: the generator, untrained.
    world: the attacker's picture of the system.
    taught: the training set.
    tested: the data set that the audit uses.
    net: the network that the clients agreed to train, for looking at images.
    variables: its weights.
    message: what the server sends, as far as the attacker sees it.
    victim: what a network that inverts updates is trained for.
    net_is_trained: whether these come from a file.
    config: the config that it was made of, for the record.
    decides: what of it decides the weights, images apart.
  """

  generator: generative.Generator
  world: worlds.World
  taught: data.Dataset
  tested: data.Dataset
  net: models.Net
  variables: types.Variables
  message: types.ServerMessage
  victim: Mapping[str, Any]
  net_is_trained: bool
  config: Mapping[str, Any]
  decides: Mapping[str, Any]


class Experiment(NamedTuple):
  """Everything that a run needs.

  Attributes:
    cohorts: the cohorts, in the order of their first points.
    config: the resolved config, which is kept with the results.
    config_hash: its hash, without the keys that change only the speed.
    inputs: the sha256 of every file that decides the results, by its path.
    threat: the level and the grants, in words.
    checks: what was found about a received update, in sentences.
  """

  cohorts: Sequence[Cohort]
  config: Mapping[str, Any]
  config_hash: str
  inputs: Mapping[str, str]
  threat: Mapping[str, Any]
  checks: Sequence[str] = ()

  @property
  def points(self) -> list[Point]:
    """All points, by index."""
    every = (point for cohort in self.cohorts for point in cohort.points)
    return sorted(every, key=lambda point: point.index)
