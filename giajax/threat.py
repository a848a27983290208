"""What the attacker may know: grants, the levels that bundle them, settings.

Levels follow Carletti et al., SoK: Gradient Inversion Attacks in Federated
Learning (USENIX Security 2025). Everything an attack is given goes through
`side`; an attack that needs more than was granted is refused by `require`
before anything runs.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax.numpy as jnp

from giajax import registry
from giajax import trees
from giajax import types

GRANTS: dict[str, str] = {
  'model': 'the architecture and the weights that the client started from',
  'batch_size': 'how many images are behind the update',
  'client_hparams': 'learning rate, local steps and BatchNorm mode',
  'bn_buffers_before': 'the BatchNorm buffers the client started from',
  'bn_buffers_after': 'the BatchNorm buffers the client ended with',
  'proxy_data': "images like the client's",
  'data_statistics': "statistics of the client's data",
  'alter_parameters': 'may change the weights that the client receives',
  'alter_architecture': 'may change the network that the client trains',
  'individual_models': 'may send each client another model',
  'select_clients': 'may choose which clients take part',
  'labels': 'the true labels of the batch',
  'label_counts': 'how often each label occurs in the batch',
  'defense': 'which defence the client applies, and its strength',
  'target': 'the images themselves (diagnostic)',
}

_B = ('model', 'batch_size', 'bn_buffers_before')
_C = (*_B, 'client_hparams', 'bn_buffers_after')
_F = (*_C, 'alter_parameters', 'alter_architecture', 'individual_models')
LEVELS: dict[str, tuple[str, ...]] = {
  'A': (),
  'B': _B,
  'C': _C,
  'D': (*_C, 'proxy_data'),
  'E': (*_C, 'data_statistics'),
  'F': _F,
  'G': (*_F, 'proxy_data'),
  'H': (*_F, 'proxy_data', 'select_clients'),
}
LEVEL_NAMES: dict[str, str] = {
  'A': 'Eavesdropper',
  'B': 'Informed',
  'C': 'Parameter-aware',
  'D': 'Data-enhanced',
  'E': 'Statistical-informed',
  'F': 'Active manipulator',
  'G': 'Data-enhanced manipulator',
  'H': 'Client-selecting manipulator',
}


def grants(level: str | None, extra: Collection[str] = ()) -> frozenset[str]:
  """Returns the grants of a level together with single ones.

  Args:
    level: 'A' to 'H', or None (or '') for no bundle.
    extra: names in `GRANTS`.

  Raises:
    ValueError: an unknown level or grant.
  """
  names = set(registry.lookup(LEVELS, level, 'threat level') if level else ())
  for name in extra:
    registry.lookup(GRANTS, name, 'grant')
    names.add(name)
  return frozenset(names)


def require(needs: Collection[str], granted: Collection[str], who: str) -> None:
  """Raises ValueError, with both lists, if `needs` exceed what was granted."""
  missing = sorted(set(needs) - set(granted))
  if missing:
    raise ValueError(
      f'Expected grants that cover the needs of {who} '
      f'({", ".join(sorted(needs))}); got threat.grants='
      f'({", ".join(sorted(granted))}), without {", ".join(missing)}; grant '
      'them, or choose an attack that needs less'
    )


def side(
  granted: Collection[str],
  batch: types.Batch,
  num_classes: int,
  proxy: Callable[[], types.Array],
) -> Mapping[str, types.Array]:
  """Returns exactly the side knowledge that was granted about a batch.

  Args:
    granted: names in `GRANTS`; those that are no facts about data add nothing.
    batch: the client's, with hard labels.
    num_classes: K.
    proxy: makes the images [P, H, W, C] of 'proxy_data'.
  """
  facts = {
    'labels': lambda: batch.y,
    'label_counts': lambda: jnp.bincount(batch.y, length=num_classes),
    'proxy_data': proxy,
    'target': lambda: batch.x,
  }
  return {name: make() for name, make in facts.items() if name in granted}


def observed(
  granted: Collection[str], message: types.ServerMessage, update: types.Update
) -> tuple[types.ServerMessage, types.Update]:
  """Returns message and update without the buffers that were not granted.

  Those of the message read like an untrained network's instead, mean 0 and
  variance 1, because a network does not run without any.
  """
  if 'bn_buffers_before' not in granted:
    stats = message.variables.stats
    neutral = {
      name: jnp.ones_like(leaf)
      if name.rpartition('.')[2] == 'var'
      else jnp.zeros_like(leaf)
      for name, leaf in trees.named_leaves(stats).items()
    }
    message = message._replace(
      variables=message.variables._replace(stats=trees.like(stats, neutral))
    )
  if 'bn_buffers_after' not in granted:
    update = update._replace(stats={})
  return message, update


def setting(
  *,
  train_mode: bool,
  batch_size: int,
  granted: Collection[str],
  trained: bool,
  has_batch_norm: bool = True,
  num_rounds: int = 1,
) -> tuple[str, list[str]]:
  """Returns 'diagnostic' with its reasons, or 'deployment' with none.

  A diagnostic result is an upper bound: it holds in a setting that makes
  inversion easier than a deployed system would.

  Args:
    train_mode: the client runs BatchNorm in training mode.
    batch_size: images behind the update.
    granted: what the attacker was given.
    trained: the network's weights come from training.
    has_batch_norm: the network has BatchNorm layers.
    num_rounds: of communication that the attack takes.
  """
  rules: Mapping[str, bool] = {
    'inference-mode client': has_batch_norm and not train_mode,
    'batch of one image': batch_size == 1,
    'known labels': 'labels' in granted,
    'known images': 'target' in granted,
    'untrained weights': not trained,
    'altered architecture': 'alter_architecture' in granted,
    'altered weights': 'alter_parameters' in granted,
    'one batch over several rounds': num_rounds > 1,
  }
  reasons = [reason for reason, holds in rules.items() if holds]
  return ('diagnostic' if reasons else 'deployment'), reasons


def describe(granted: Collection[str]) -> dict[str, Any]:
  """Returns what was granted and what was withheld, in words."""
  return {
    'grants': {n: text for n, text in GRANTS.items() if n in granted},
    'withheld': {n: text for n, text in GRANTS.items() if n not in granted},
  }
