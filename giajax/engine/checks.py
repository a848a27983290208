"""What is found about a received update before it is attacked."""

from collections.abc import Iterable, Mapping, Sequence
import json
import logging
from typing import Any

from giajax import archives
from giajax import trees
from giajax import types
from giajax.clients import CLIENTS
from giajax.engine import experiment
from giajax.engine import factories
from giajax.engine import identity
from giajax.engine.sources import description
from giajax.models import base as models

_ABOUT = ('source', 'client', 'model', 'weights', 'trainable', 'cases', 'task')
# What was found, by what was asked.
_found: dict[str, list[str]] = {}
_log = logging.getLogger('giajax')


def found(
  resolved: Mapping[str, Any], setup: experiment.Setup, rows: Iterable[Any]
) -> list[str]:
  """Returns what is found about the update of a setting, in sentences.

  Nothing about one that is played here. It is logged when it is found first.

  Args:
    resolved: a config as `resolve` returns it, without sweep.
    setup: what was built of it.
    rows: the rows of tables that it names.

  Raises:
    ValueError: a setting that the update is not of, or a file that cannot be
      read.
  """
  update = setup.source.update
  if update is None:
    return []
  setup.source.check(setup)
  own = {key: resolved[key] for key in _ABOUT}
  # Another network that this process was given has another function.
  own['net'] = id(setup.net.apply) if ':' in own['model']['name'] else 0
  key = json.dumps([own, identity.inputs(own, rows)], sort_keys=True)
  if key not in _found:  # a pilot and what follows it ask the same
    _found[key] = _look(own['client'], setup, update)
    for note in (*setup.source.facts['notes'], *_found[key]):
      _log.info('%s', note)
  return _found[key]


def _look(
  client: Mapping[str, Any], setup: experiment.Setup, update: types.Update
) -> list[str]:
  """Returns the sentences; `client` is the config's description of it."""
  size = setup.cases.batch_size

  def make(entry):
    parts = {'net': setup.net, 'task': setup.world.task, 'num_images': size}
    return factories.make(CLIENTS, entry, 'client', **parts)

  agreed = description.agreement(setup.net, setup.variables)
  fit = description.fit(
    make,
    client,
    setup.variables,
    update,
    setup.source.item(setup, 0).batch,
    size,
  )
  untrained = _untrained(setup.net, setup.variables)
  return [text for text in (agreed, untrained, fit) if text]


def _untrained(net: models.Net, sent: types.Variables) -> str:
  """Returns what to say of parameters that torch would not train.

  Nothing where somebody has said which parameters the client trains.
  """
  if not net.untrained or sent.frozen:
    return ''
  names = [*trees.named_leaves(sent.params)]
  patterns = dict.fromkeys(_pattern(n, names, net) for n in net.untrained)
  return (
    f'{len(net.untrained)} of {len(names)} parameters require no gradient in '
    f'torch, and are trained here: {archives.listed([*net.untrained])}. If the '
    'client does not train them either, say so '
    f'(--freeze={",".join(patterns)}, or trainable.freeze of a config).'
  )


def _pattern(name: str, names: Sequence[str], net: models.Net) -> str:
  """Returns the widest pattern for a parameter that names no trained one."""
  parts = name.split('.')
  for depth in range(1, len(parts)):
    layer = '.'.join(parts[:depth]) + '.'
    if {n for n in names if n.startswith(layer)} <= {*net.untrained}:
      return f'{layer}*'
  return name
