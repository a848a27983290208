"""What the attacker may know: grants, the levels that bundle them, settings.

Levels follow Carletti et al., SoK: Gradient Inversion Attacks in Federated
Learning (USENIX Security 2025). Everything that an attack is granted goes
through `side`; an attack that needs more than was granted is refused by
`require` before anything runs.
"""

from collections.abc import Callable, Collection, Mapping
import types as builtins
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import scipy  # which loads its parts where they are used

from giajax import registry
from giajax import trees
from giajax import types
from giajax.tasks import base as tasks

GRANTS: dict[str, str] = {
  'model': 'the architecture and the weights that the client started from',
  'batch_size': 'how many images are behind the update',
  'client_hparams': 'learning rate, local steps and BatchNorm mode',
  'bn_buffers_before': 'the BatchNorm buffers the client started from',
  'bn_buffers_after': 'the BatchNorm buffers the client ended with',
  'proxy_data': "images like the client's",
  'auxiliary_data': "images like the client's with labels, enough to train on",
  'pretrained_generator': "a generator trained on images like the client's",
  'data_statistics': "statistics of the client's data",
  'alter_parameters': 'the right to change the weights that clients receive',
  'alter_architecture': 'the right to change the network that clients train',
  'individual_models': 'the right to send each client another model',
  'select_clients': 'the right to choose which clients take part',
  'labels': 'the true labels, or other targets, of the batch',
  'boxes': 'where the objects are in the images',
  'matching': 'which predictions of a detector answer for which objects',
  'label_counts': 'how often each label occurs in the batch',
  'defense': 'which defence the client applies, and its strength',
  'target': 'the images themselves (diagnostic)',
}

# Of these, what an attacker may do and not what it knows.
POWERS = (
  *('alter_parameters', 'alter_architecture', 'individual_models'),
  'select_clients',
)

# What can be granted of targets that are one thing.
_TARGETS = builtins.MappingProxyType({'labels': tasks.Fact()})
_B = ('model', 'batch_size', 'bn_buffers_before')
_C = (*_B, 'client_hparams', 'bn_buffers_after')
_F = (*_C, 'alter_parameters', 'alter_architecture', 'individual_models')
# Surrogate data, and what can be learned from them.
_DATA = ('proxy_data', 'auxiliary_data', 'pretrained_generator')


class Level(NamedTuple):
  """A bundle of grants with a name."""

  name: str
  meaning: str  # what the attacker has, the end of a sentence
  grants: tuple[str, ...]


LEVELS: dict[str, Level] = {
  'A': Level('Eavesdropper', 'what server and client exchange, no more', ()),
  'B': Level(
    'Informed',
    'what server and client exchange, and basic knowledge of the training',
    _B,
  ),
  'C': Level(
    'Parameter-aware',
    'what server and client exchange, and the details of the training',
    _C,
  ),
  'D': Level(
    'Data-enhanced',
    'the details of the training, and surrogate data',
    (*_C, *_DATA),
  ),
  'E': Level(
    'Statistical-informed',
    'the details of the training, and statistics of the client’s data',
    (*_C, 'data_statistics'),
  ),
  'F': Level(
    'Active manipulator',
    'the details of the training, and the right to alter what clients receive',
    _F,
  ),
  'G': Level(
    'Data-enhanced manipulator',
    'the right to alter what clients receive, and surrogate data',
    (*_F, *_DATA),
  ),
  'H': Level(
    'Client-selecting manipulator',
    'the right to alter what clients receive and to select the clients, and '
    'surrogate data',
    (*_F, *_DATA, 'select_clients'),
  ),
}

# Why a setting is diagnostic: what makes inversion easier in it than in a
# deployed system.
REASONS: dict[str, str] = {
  'inference-mode client': (
    'Layers such as BatchNorm used stored statistics, which the attacker can '
    'repeat. A client that trains normalises by its own batch, which couples '
    'the images and makes the inversion much harder.'
  ),
  'batch of one image': (
    'One image stood behind the update. Clients average the gradients of '
    'many, and each further image makes the inversion harder.'
  ),
  'known labels': (
    'The attacker was given the labels. Otherwise it has to infer them from '
    'the update, and can be wrong.'
  ),
  'known boxes': (
    'The attacker was given the boxes of the objects, and knew where to look. '
    'Otherwise it has to find them as well.'
  ),
  'known matching': (
    'The attacker was told which predictions of the network answer for which '
    'objects when it sees the images themselves. Otherwise the attack matches '
    'those of its own candidate, often differently.'
  ),
  'known images': (
    'The attack started from the images themselves, in part. What it ends '
    'with shows what a start reveals, not what an update does.'
  ),
  'images in the auxiliary data': (
    'An image behind the update is also among those that the attacker, or who '
    'trained its generator, had before. What came back may have been '
    'remembered, and need not have been in the update.'
  ),
  'untrained weights': (
    'On a sample of these data, the network did hardly better than chance. '
    'A model that has been trained for a while sends gradients that say less '
    'about single images.'
  ),
  'altered architecture': (
    'The network was changed in a way that helps the attack. Stock '
    'architectures give away less.'
  ),
  'altered weights': (
    'The server sent weights that it had made up, which a client that checks '
    'what it receives may refuse.'
  ),
  'one batch over several rounds': (
    'The client worked on the same batch in every round. One that draws a new '
    'batch for each round does not.'
  ),
}
# Trained weights close this part of the gap between chance and perfection ...
_LEARNED = 0.1
# ... of which the sample gives this confidence.
_CONFIDENCE = 0.99


def grants(level: str | None, extra: Collection[str] = ()) -> frozenset[str]:
  """Returns the grants of a level together with single grants.

  Args:
    level: a level from 'A' to 'H', or None (or '') for no bundle.
    extra: further grants, names in `GRANTS`.

  Raises:
    ValueError: an unknown level or grant.
  """
  names: set[str] = set()
  if level:
    names.update(registry.lookup(LEVELS, level, 'threat level').grants)
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
  facts: Mapping[str, tasks.Fact] = _TARGETS,
) -> Mapping[str, Any]:
  """Returns exactly the side knowledge that was granted about a batch.

  Facts that follow from the client's pass are not known before it, see `told`.

  Args:
    granted: names in `GRANTS`; grants that are not facts about data add
      nothing.
    batch: the client's batch, with hard targets; class indices [B] where
      'label_counts' is granted.
    num_classes: the number of classes K.
    proxy: a function that makes the images [P, H, W, C] of 'proxy_data'.
    facts: what can be granted of targets, see `tasks.base.Task`.

  Raises:
    ValueError: counts of targets that are no class indices.
  """

  def counts():
    y = batch.y if isinstance(batch.y, jax.typing.ArrayLike) else 0.0
    if jnp.ndim(y) != 1 or not jnp.issubdtype(jnp.result_type(y), jnp.integer):
      raise ValueError(
        "Expected labels that can be counted for the grant 'label_counts'; got "
        'targets of another form; take it out of threat.grants'
      )
    return jnp.bincount(y, length=num_classes)

  made = {
    'label_counts': counts,
    'proxy_data': proxy,
    'target': lambda: batch.x,
  }
  side = {name: make() for name, make in made.items() if name in granted}
  known = {n: f.of for n, f in facts.items() if n in granted and f.of}
  return side | {name: of(batch.y) for name, of in known.items()}


def told(
  granted: Collection[str],
  output: types.Output,
  y: Any,
  facts: Mapping[str, tasks.Fact],
) -> dict[str, Any]:
  """Returns what was granted that follows from the client's own pass.

  Args:
    granted: names in `GRANTS`.
    output: what the network returned for the client's images.
    y: their targets.
    facts: what can be granted of targets, see `tasks.base.Task`.
  """
  passed = {n: f.of_pass for n, f in facts.items() if n in granted}
  return {n: of(output.out, y) for n, of in passed.items() if of}


def observed(
  granted: Collection[str], message: types.ServerMessage, update: types.Update
) -> tuple[types.ServerMessage, types.Update]:
  """Returns message and update without the buffers that were not granted.

  The buffers of the message are replaced by those of an untrained network, mean
  0 and variance 1, because a network does not run without any.
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


def is_trained(right: int, total: int, chance: float) -> bool:
  """Returns whether weights are trained, judging by what they classify.

  They are if the network is better than chance by a tenth of the possible gain,
  with a confidence of 99 %, by the exact binomial interval of Clopper and
  Pearson, Biometrika 1934. Where the weights come from does not matter, and
  weights trained on other classes than these count as untrained.

  Args:
    right: the number of images in a sample of the data set that are classified
      correctly.
    total: the size of the sample, at least 1.
    chance: the share of the most frequent class, in (0, 1].
  """
  test = scipy.stats.binomtest(right, total)
  low = test.proportion_ci(2 * _CONFIDENCE - 1, method='exact').low
  return bool(low > chance + _LEARNED * (1 - chance))


def setting(
  *,
  train_mode: bool,
  batch_size: int,
  granted: Collection[str],
  trained: bool | None,
  has_batch_norm: bool = True,
  num_rounds: int = 1,
  altered: bool = False,
  known_before: bool = False,
  captured: bool = False,
) -> tuple[str, list[str]]:
  """Returns 'diagnostic', 'deployment' or 'captured', and what helps an attack.

  A diagnostic setting makes inversion easier than a deployed system does, so
  what an attack finds in it is an upper bound on what the same attack finds in
  a deployed system. Without such a reason, a setting is 'deployment'. A
  captured update is one of a real system, whatever makes it easy to invert.

  Args:
    train_mode: whether the client runs BatchNorm in training mode.
    batch_size: the number of images behind the update.
    granted: the grants that the attacker was given and uses.
    trained: whether the network's weights come from training; see `is_trained`.
      None where nobody knows.
    has_batch_norm: whether the network has BatchNorm layers.
    num_rounds: the number of rounds of communication that the attack takes.
    altered: whether the agreed network itself is not a stock one, but one that
      helps an attack.
    known_before: whether an image behind the update is in the auxiliary data.
    captured: whether the update was received from a real client.
  """
  rules: Mapping[str, bool] = {
    'inference-mode client': has_batch_norm and not train_mode,
    'batch of one image': batch_size == 1,
    'known labels': 'labels' in granted,
    'known boxes': 'boxes' in granted,
    'known matching': 'matching' in granted,
    'known images': 'target' in granted,
    'images in the auxiliary data': known_before,
    'untrained weights': trained is False,
    'altered architecture': altered or 'alter_architecture' in granted,
    'altered weights': 'alter_parameters' in granted,
    'one batch over several rounds': num_rounds > 1,
  }
  reasons = [reason for reason in REASONS if rules[reason]]
  if captured:
    return 'captured', reasons
  return ('diagnostic' if reasons else 'deployment'), reasons


def describe(granted: Collection[str]) -> dict[str, Any]:
  """Returns what was granted and what was withheld, in words."""
  return {
    'grants': {n: text for n, text in GRANTS.items() if n in granted},
    'withheld': {n: text for n, text in GRANTS.items() if n not in granted},
  }
