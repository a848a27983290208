"""What a federated system could change: a table by three stages.

Guo et al., Exploring the Vulnerabilities of Federated Learning, TPAMI 2025,
arXiv 2503.11514, conclude from their measurements where a defence can be
placed: the network's design, the training protocol, and what clients check
before they train. Each row turns the config of an audit into that of the
changed system. No row claims that the change helps: `giajax advise` measures
it. The attacker knows any defence, and knows the changed protocol if it knew
the audited one.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from giajax import threat
from giajax.engine import factories
from giajax.engine import systems
from giajax.models import inspect as layer_inspection
from giajax.models import MODELS

Config = Mapping[str, Any]
# The next larger network of each family.
_DEEPER = {
  'convnext_tiny': 'convnext_small',
  'convnext_small': 'convnext_base',
  'mobilenet_v3_small': 'mobilenet_v3_large',
  'resnet18': 'resnet34',
  'resnet34': 'resnet50',
  'resnet50': 'resnet101',
  'resnet101': 'resnet152',
  'resnet20': 'resnet32',
  'resnet32': 'resnet44',
  'resnet44': 'resnet56',
  'vgg11': 'vgg13',
  'vgg13': 'vgg16',
  'vgg16': 'vgg19',
  'vgg11_bn': 'vgg13_bn',
  'vgg13_bn': 'vgg16_bn',
  'vgg16_bn': 'vgg19_bn',
  'vit_tiny': 'vit_small',
  'vit_small': 'vit_base',
  'vit_base': 'vit_large',
}
_FACTOR = 4  # times as many images, or clients
_LOCAL = {'epochs': 2, 'learning_rate': 0.01}
# Of per-example clipping: the privacy budget of one single update.
_PRIVACY = {'clip': 1.0, 'epsilon': 8.0}


class Change(NamedTuple):
  """One change of a system.

  Attributes:
    stage: a name in `report.advice.STAGES`.
    title: what is changed, in words.
    overrides: a function that returns the values that a resolved config gets,
      by dotted key. It raises ValueError, in one line, if there is nothing to
      change.
  """

  stage: str
  title: str
  overrides: Callable[[Config], dict[str, Any]]


def _activation(config: Config) -> dict[str, Any]:
  _untrained(config)
  entry = config['model']
  parameters = factories.parameters(MODELS, entry, 'model')
  if 'activation' not in parameters:
    raise ValueError(
      'Expected a network whose activation can be chosen; got '
      f'model={entry["name"]!r}; another architecture is another audit'
    )
  now = entry.get('activation', parameters['activation'].default)
  return {'model.activation': 'gelu' if now == 'relu' else 'relu'}


def _deeper(config: Config) -> dict[str, Any]:
  _untrained(config)
  name = config['model']['name']
  if name not in _DEEPER:
    raise ValueError(
      f'Expected a network that has a larger one in its family; got '
      f'model={name!r}; audit a network of your choice instead'
    )
  return {'model.name': _DEEPER[name]}


def _batch(config: Config) -> dict[str, Any]:
  _whole(config)
  return {'cases.batch_size': _FACTOR * config['cases']['batch_size']}


def _local_steps(config: Config) -> dict[str, Any]:
  client = config['client']
  if client['name'] == 'fedavg':
    epochs = 2 * client.get('epochs', 1)
    return {'client.epochs': epochs, **_believed(config)}
  arguments = {k: v for k, v in client.items() if k != 'name'}
  changed = {'name': 'fedavg', **_LOCAL, **arguments}
  return {'client': changed, **_believed(config)}


def _train_mode(config: Config) -> dict[str, Any]:
  if config['client'].get('train_mode', False):
    raise ValueError(
      'Expected a client in inference mode; got train_mode=True; there is '
      'nothing to change'
    )
  net = systems.system(config, systems.share(config)).net
  if not layer_inspection.has_batch_norm(net) and not layer_inspection.draws(
    net, train=True
  ):
    raise ValueError(
      'Expected a network that differs in training mode; got model='
      f'{config["model"]["name"]!r}, without BatchNorm or dropout; nothing '
      'would change'
    )
  return {'client.train_mode': True}


def _aggregate(config: Config) -> dict[str, Any]:
  _whole(config)
  cases = config['cases']
  more = {
    'cases.clients': _FACTOR * cases['clients'],
    'cases.batch_size': _FACTOR * cases['batch_size'],
  }
  # A share refers to the images of one client.
  return more | ({'gradient_share': False} if config['gradient_share'] else {})


def _noise(config: Config) -> dict[str, Any]:
  return _defended(config, name='per_example_clipping', **_PRIVACY)


def _pruning(config: Config) -> dict[str, Any]:
  return _defended(config, name='pruning', keep=0.01)


CHANGES = {
  'activation': Change('network', 'Another activation', _activation),
  'deeper': Change('network', 'The next larger network', _deeper),
  'batch': Change('protocol', 'Four times the images per update', _batch),
  'local_steps': Change('protocol', 'Twice the local epochs', _local_steps),
  'train_mode': Change('protocol', 'A client in training mode', _train_mode),
  'aggregation': Change(
    'protocol', 'Secure aggregation of four times the clients', _aggregate
  ),
  'noise': Change(
    'protocol', 'Clipping and noise for epsilon 8 per update', _noise
  ),
  'pruning': Change(
    'protocol', 'Send the largest hundredth of the update only', _pruning
  ),
}


def _defended(config: Config, **defense: Any) -> dict[str, Any]:
  """Returns the overrides that add a defence, which the attacker knows."""
  entry = config['defense']
  names = [e['name'] for e in (entry if isinstance(entry, list) else [entry])]
  if names != ['none']:
    raise ValueError(
      f'Expected a system without a defence; got defense={names}; audit the '
      'system without it'
    )
  grants = [*config['threat']['grants'], 'defense']
  return {'defense': defense, 'threat.grants': list(dict.fromkeys(grants))}


def _believed(config: Config) -> dict[str, Any]:
  """Returns the belief of a server that does not know the protocol.

  It treats any update as one gradient.
  """
  level, extra = config['threat']['level'], config['threat']['grants']
  granted = threat.grants(level, extra)
  knows = 'client_hparams' in granted or config['belief']['name'] != 'same'
  return {} if knows else {'belief': {'name': 'one_gradient'}}


def _untrained(config: Config) -> None:
  """Refuses weights that another network cannot take."""
  if config['weights']['path']:
    raise ValueError(
      'Expected fresh weights; got those of the audited network; train the '
      'changed network by giajax train and audit it'
    )


def _whole(config: Config) -> None:
  """Refuses images that were listed one by one."""
  if config['cases']['given'] is not None:
    raise ValueError(
      'Expected images that a rule draws; got cases.given; list more images '
      'there and audit them'
    )
