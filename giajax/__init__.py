"""giajax: what federated-learning updates give away, measured in JAX."""

import importlib
from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
  from giajax.attacks.base import Attack
  from giajax.attacks.parts.matching_loss import matching_loss
  from giajax.battery.call import audit
  from giajax.models.base import Net
  from giajax.models.base import Spec
  from giajax.models.from_callable import from_callable
  from giajax.models.from_keras import from_keras
  from giajax.models.from_linen import from_linen
  from giajax.models.from_nnx import from_nnx
  from giajax.models.from_stateful import from_stateful
  from giajax.models.from_torch import from_torch
  from giajax.types import Batch
  from giajax.types import Observation
  from giajax.types import Reconstruction
  from giajax.types import ServerMessage
  from giajax.types import Update
  from giajax.types import Variables
  from giajax.world import World

__version__ = '0.1.0'
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
  'audit',
  'from_callable',
  'from_keras',
  'from_linen',
  'from_nnx',
  'from_stateful',
  'from_torch',
  'matching_loss',
]
# Where the names above are. JAX takes a second to import, in which a command
# has to answer signals: a module is imported when one of its names is used.
_MODULES = {
  'Attack': 'giajax.attacks.base',
  'Batch': 'giajax.types',
  'Net': 'giajax.models.base',
  'Observation': 'giajax.types',
  'Reconstruction': 'giajax.types',
  'ServerMessage': 'giajax.types',
  'Spec': 'giajax.models.base',
  'Update': 'giajax.types',
  'Variables': 'giajax.types',
  'World': 'giajax.world',
  'audit': 'giajax.battery.call',
  'from_callable': 'giajax.models.from_callable',
  'from_keras': 'giajax.models.from_keras',
  'from_linen': 'giajax.models.from_linen',
  'from_nnx': 'giajax.models.from_nnx',
  'from_stateful': 'giajax.models.from_stateful',
  'from_torch': 'giajax.models.from_torch',
  'matching_loss': 'giajax.attacks.parts.matching_loss',
}


if not TYPE_CHECKING:  # a checker knows the names above, and no others

  def __getattr__(name: str) -> Any:
    if name not in _MODULES:
      raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
