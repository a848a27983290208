"""Every family's table, and how all of them are listed."""

from collections.abc import Callable, Mapping
from typing import Any

from giajax import registry
from giajax.attacks import ATTACKS
from giajax.attacks.parts import distances
from giajax.attacks.parts import labels
from giajax.attacks.parts import starts
from giajax.clients import BELIEFS
from giajax.clients import CLIENTS
from giajax.data import DATASETS
from giajax.defenses import DEFENSES
from giajax.engine.sources import SOURCES
from giajax.generative import GENERATORS
from giajax.metrics import METRICS
from giajax.models import MODELS
from giajax.ops import convolution
from giajax.priors import PRIORS
from giajax.tasks import TASKS
from giajax.verify import VERIFIERS

# By the name of the rows.
TABLES: dict[str, Mapping[str, Any]] = {
  'attacks': ATTACKS,
  'beliefs about clients': BELIEFS,
  'checks': VERIFIERS,
  'clients': CLIENTS,
  'data sets': DATASETS,
  'defenses': DEFENSES,
  'distances': distances.DISTANCES,
  'generators': GENERATORS,
  'label rules': labels.RULES,
  'lowerings': convolution.LOWERINGS,
  'metrics': METRICS,
  'models': MODELS,
  'priors': PRIORS,
  'sources': SOURCES,
  'starts': starts.STARTS,
  'tasks': TASKS,
}
# By the key of a config whose entry names a row and gives it arguments.
FAMILIES: dict[str, Mapping[str, Callable[..., Any]]] = {
  'attack': ATTACKS,
  'auxiliary': DATASETS,
  'belief': BELIEFS,
  'client': CLIENTS,
  'dataset': DATASETS,
  'defense': DEFENSES,
  'model': MODELS,
  'source': SOURCES,
  'task': TASKS,
}


def listing() -> str:
  """Returns every table, with one line per row."""
  lines = []
  for kind, table in TABLES.items():
    width = max(map(len, table))
    rows = [f'  {n:{width}}  {registry.summary(r)}' for n, r in table.items()]
    lines += [f'{kind}:', *rows]
  return '\n'.join(lines)
