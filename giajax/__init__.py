"""giajax: what federated-learning updates give away, measured in JAX."""

import importlib
import sys

__version__ = '0.1.0'

try:
  importlib.import_module('jax')  # reads its environment variables
except ValueError as error:
  # Nothing of this package can be imported, nor can JAX.
  print(
    f'giajax: Expected environment variables that JAX takes; got {error}; '
    'correct them',
    file=sys.stderr,
  )
  raise SystemExit(2) from error

from giajax.attacks.base import Attack
from giajax.attacks.parts.matching_loss import matching_loss
from giajax.models.base import Net
from giajax.models.base import Spec
from giajax.models.from_callable import from_callable
from giajax.models.from_linen import from_linen
from giajax.models.from_nnx import from_nnx
from giajax.types import Batch
from giajax.types import Observation
from giajax.types import Reconstruction
from giajax.types import ServerMessage
from giajax.types import Update
from giajax.types import Variables
from giajax.world import World

__all__ = [
  'Attack',
  'Batch',
  'Net',
  'Observation',
  'Reconstruction',
  'ServerMessage',
  'Spec',
  'Update',
  'Variables',
  'World',
  'from_callable',
  'from_linen',
  'from_nnx',
  'matching_loss',
]
