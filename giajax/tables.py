"""Every family's table, by what its rows are called."""

from giajax.attacks import ATTACKS
from giajax.attacks.parts import distances
from giajax.attacks.parts import labels
from giajax.attacks.parts import starts
from giajax.clients import CLIENTS
from giajax.data import DATASETS
from giajax.defenses import DEFENSES
from giajax.metrics import METRICS
from giajax.models import MODELS
from giajax.ops import convolution
from giajax.priors import PRIORS
from giajax.tasks import TASKS
from giajax.verify import VERIFIERS

TABLES = {
  'attacks': ATTACKS,
  'checks': VERIFIERS,
  'clients': CLIENTS,
  'data sets': DATASETS,
  'defenses': DEFENSES,
  'distances': distances.DISTANCES,
  'label rules': labels.RULES,
  'lowerings': convolution.LOWERINGS,
  'metrics': METRICS,
  'models': MODELS,
  'priors': PRIORS,
  'starts': starts.STARTS,
  'tasks': TASKS,
}
