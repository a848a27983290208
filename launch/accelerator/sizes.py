"""The rows of the kit: what is measured, in the order in which it decides."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from giajax.models import precision as precisions

from .. import suites


class Task(NamedTuple):
  """A row to be measured.

  Attributes:
    key: its name, which begins with its section.
    function: a name in `worker.FUNCTIONS` or in `__main__.AUDITS`.
    arguments: the arguments of that function.
  """

  key: str
  function: str
  arguments: tuple[Any, ...] = ()


class Size(NamedTuple):
  """How much is measured.

  Attributes:
    lowerings: the lowerings to check for each workload's convolutions.
    moments: the workloads whose moments are checked.
    precisions: those of the attacker that DLG is run at.
    layouts: the workload that is spread over devices.
    speed: (workload, restarts, lowering, precision) of each row.
    peers: the steps of the peer for each workload that it has, too.
    steps: the steps of a speed row; 0 takes about two seconds.
    audits: the configs of the audits 'attack', 'precision' and 'figure'.
    images: whether the figure needs CIFAR-10.
    figure: the points of the figure: batch size, number of updates, precision.
    limit: the seconds that a row may take; a point of the figure continues.
    flags: those of XLA under which a killed run is continued, too.
  """

  lowerings: Mapping[str, Sequence[str]]
  moments: Sequence[str]
  precisions: Sequence[str]
  layouts: str
  speed: Sequence[tuple[str, int, str, str]]
  peers: Mapping[str, int]
  steps: int
  audits: Mapping[str, str]
  images: bool
  figure: Sequence[tuple[int, int, str]]
  limit: float
  flags: Sequence[str] = ()


def tasks(size: Size, section: str, peer: bool) -> Iterator[Task]:
  """Yields the rows of a section.

  Args:
    size: how much is measured.
    section: a name in `SECTIONS`.
    peer: whether there is a peer to be timed.
  """
  rows = {'check': _checks, 'speed': _speed, 'figure': _figure}[section](size)
  yield from (row for row in rows if peer or row.function != 'peer')


def _checks(size):
  lowerings = list(_lowerings(size))
  yield lowerings[0]
  attack, dlg = size.audits['attack'], size.audits['precision']
  yield Task('check/resumed', 'resumed', (attack, ''))
  yield Task('check/alike', 'alike', (attack,))
  for name in size.precisions:
    yield Task(f'check/precision/{name}', 'exactness', (dlg, name))
  for network in size.moments:
    yield Task(f'check/moments/{network}', 'moments', (network,))
  yield Task(f'check/layouts/{size.layouts}', 'layouts', (size.layouts,))
  for flags in size.flags:
    yield Task(f'check/resumed/{flags}', 'resumed', (attack, f'--{flags}'))
  yield from lowerings[1:]


def _lowerings(size):
  for network, names in size.lowerings.items():
    for name in names:
      key = f'check/lowering/{network}/{name}'
      yield Task(key, 'lowering', (network, name, 'full'))
    if len(names) > 1:
      key = f'check/lowering/{network}/auto/tensorfloat32'
      yield Task(key, 'lowering', (network, 'auto', 'tensorfloat32'))


def _speed(size):
  for precision in precisions.PRECISIONS:
    yield Task(f'speed/matmul/{precision}', 'matmul', (precision,))
  timed = set()
  for network, restarts, lowering, precision in size.speed:
    key = f'speed/{network}/{restarts}/{lowering}/{precision}'
    arguments = (network, restarts, lowering, precision, size.steps)
    yield Task(key, 'speed', arguments)
    if network in size.peers and network not in timed:
      timed.add(network)
      arguments = (network, key, size.peers[network])
      yield Task(f'speed/peer/{network}', 'peer', arguments)


def _figure(size):
  config = size.audits['figure']
  for batch, count, precision in size.figure:
    arguments = (config, batch, count, precision)
    yield Task(f'figure/{batch}/{precision}', 'figure', arguments)


_OTHERS = ('direct', 'lax')  # beside patches, which `auto` takes
# With targets, and those beside them.
_MAIN = ('resnet18:1:224', 'convnet64:1', 'resnet18:1', 'lenet:1')
_LARGE = ('resnet50:1:224', 'vit_base:1:224', 'convnext_tiny:1:224')


def _full_speed() -> list[tuple[str, int, str, str]]:
  """Returns the rows of the speed, those with targets first."""
  many, full = 64, 'full'
  coarse = tuple(name for name in precisions.PRECISIONS if name != full)
  return [
    *((network, many, 'auto', full) for network in _MAIN),
    *((network, many, 'auto', p) for network in _MAIN[:2] for p in coarse),
    *((network, many, 'auto', full) for network in _LARGE),
    *((n, many, lowering, full) for n in _MAIN[:2] for lowering in _OTHERS),
    *((network, 1, 'auto', full) for network in _MAIN),
    ('convnet64:1', many, 'winograd', full),
    *((n, r, 'auto', full) for n in _MAIN for r in (8, 256)),
    *((network, many, 'auto', p) for network in _MAIN[2:] for p in coarse),
    *((network, many, 'auto', p) for network in _LARGE for p in coarse),
    *((n, many, lowering, full) for n in _MAIN[2:] for lowering in _OTHERS),
    *((n, r, 'auto', full) for n in _LARGE for r in (1, 8, 256)),
    *((n, many, lowering, full) for n in _LARGE for lowering in _OTHERS),
  ]


# The steps that the peer takes, for workloads that it has, too.
_PEERS = {
  'lenet:1': 200,
  'convnet64:1': 100,
  'resnet18:1': 100,
  'resnet18:1:224': 100,
}
_AUDITS = ('attack', 'precision', 'figure')
_LOCAL = {part: f'accelerator:{part},runlocal' for part in _AUDITS}
_ALL = ('auto', 'patches', 'direct', 'lax', 'blocks', 'phases')
_GROUPED = ('auto', 'lax', 'bundles')

_LOWERINGS = {
  'resnet18:1': (*_ALL, 'winograd'),
  'lenet:1': _ALL,
  'convnet64:1': (*_ALL, 'winograd'),
  'resnet18:1:224': (*_ALL, 'winograd'),
  'mobilenet_v2:1:224': (*_GROUPED, 'shifts'),
  'resnext50:1:224': _GROUPED,
  'convnext_tiny:1:224': (*_GROUPED, 'shifts'),
  'resnet50:1:224': ('auto', 'lax'),
}
# All other convolutions of the zoo, as `auto` lowers them.
_ZOO = {
  name: ('auto',)
  for name in (name.removesuffix(':32') for name in suites.zoo([1]))
  if name not in _LOWERINGS
}
SIZES = {
  'full': Size(
    lowerings={**_LOWERINGS, **_ZOO},
    moments=('resnet18:1', 'lenet:1', 'resnet18:1:224', 'vit_base:1:224'),
    precisions=tuple(precisions.PRECISIONS),
    layouts='convnet64:1',
    speed=_full_speed(),
    peers=_PEERS,
    steps=0,
    audits={part: f'accelerator:{part}' for part in _AUDITS},
    images=True,
    figure=[
      (1, 8, 'full'),
      (1, 8, 'tensorfloat32'),  # beside it, to be trusted for what follows
      (4, 4, 'tensorfloat32'),
      (8, 2, 'tensorfloat32'),
      (16, 2, 'tensorfloat32'),
      (32, 1, 'tensorfloat32'),
      (64, 1, 'tensorfloat32'),
    ],
    limit=150.0,
    flags=('xla_gpu_deterministic_ops=true',),
  ),
  'small': Size(
    lowerings={
      'lenet:1': _ALL,
      'resnet20:1': ('auto', 'winograd'),
      'mobilenet_v2:1': ('shifts',),
    },
    moments=('resnet20:1', 'lenet:1'),
    precisions=('full',),  # all that a CPU has units for
    layouts='lenet:1',
    speed=[
      ('lenet:1', 8, 'auto', 'full'),
      ('lenet:1', 8, 'auto', 'bfloat16'),
      ('lenet:1', 8, 'patches', 'full'),
    ],
    peers=_PEERS,
    steps=0,
    audits=_LOCAL,
    images=False,
    figure=[(1, 2, 'full'), (4, 1, 'full')],
    limit=60.0,
  ),
  'tiny': Size(
    lowerings={'lenet:1': ('patches',)},
    moments=('mlp:1',),
    precisions=('full',),
    layouts='mlp:1',
    speed=[('mlp:1', 2, 'auto', 'full')],
    peers={'mlp:1': 2},
    steps=2,
    audits=dict.fromkeys(_AUDITS, _LOCAL['attack']),
    images=False,
    figure=[(1, 1, 'full')],
    limit=60.0,
  ),
}
SECTIONS = ('check', 'speed', 'figure')
