"""The suites of the benchmark: their workloads, figures and peers."""

from collections.abc import Callable, Mapping, Sequence
import pathlib
from typing import Any, NamedTuple

from giajax import models
from giajax import registry

from . import generative_workload
from . import workload

# Network, batch, steps of the peer.
WORKLOADS = {
  'lenet:1': 200,
  'lenet:8': 100,
  'resnet20:1': 40,
  'resnet18:1': 10,
  'resnet18:8': 4,
  'convnet64:1': 10,
  'convnet64:8': 3,
}
_SIZES, _BATCHES = (32, 224), (1, 8)  # of the zoo
# Networks made for small images: these, and the ResNets of three stages.
_SMALL = (
  'cnn6',
  'convnet',
  'lenet',
  'lenet_relu',
  'mlp',
  'resnet20',
  'resnet32',
  'resnet44',
  'resnet56',
)
_GOLDEN = pathlib.Path(__file__).parents[1] / 'tests/golden'


class Column(NamedTuple):
  """A column of numbers: the key of a figure, and how it is shown."""

  key: str
  title: str
  width: int
  digits: int


class Suite(NamedTuple):
  """Workloads that are measured alike.

  Attributes:
    names: those that run if --only names none.
    check: `(name)`, which raises ValueError for what is no workload.
    worker: the module that times one, and prints its figures.
    settings: the flags that it takes.
    words: `(name, case) -> arguments` of the peer's script.
    script: the peer's; None for that of --peer_script.
    unit: what is timed, as in the keys 'ms_per_step' and 'cpu_ms_per_step'.
    same: figures in which both sides have to agree.
    shares: whether the peer begins with weights that the worker writes to a
      file, the case, and has to have the same losses.
    columns: of the table.
    remark: the title of its last column, and `(figures) -> str`.
  """

  names: Sequence[str]
  check: Callable[[str], Any]
  worker: str
  settings: Sequence[str]
  words: Callable[[str, str], list[str]]
  script: pathlib.Path | None
  unit: str
  same: Sequence[str]
  shares: bool
  columns: Sequence[Column]
  remark: tuple[str, Callable[[Mapping[str, Any]], str]]


def zoo(batches: Sequence[int]) -> list[str]:
  """Returns every classifier at every size, small ones first.

  Args:
    batches: the numbers of images behind an update.
  """
  return [
    f'{network}:{batch}:{size}'
    for size in _SIZES
    for batch in batches
    for network in models.MODELS
    if network not in models.DETECTORS and (size == 32 or network not in _SMALL)
  ]


def _lowerings(figures: Mapping[str, Any]) -> str:
  return ', '.join(f'{n} {k}' for k, n in figures['lowerings'].items())


def _words(name: str, case: str) -> list[str]:
  del case
  network, batch, size = workload.parse(name)
  return [
    f'--network={network}',
    f'--batch={batch}',
    f'--size={size}',
    f'--steps={WORKLOADS.get(name, 3)}',
  ]


_MAIN = Suite(
  names=list(WORKLOADS),
  check=workload.parse,
  worker='workload',
  settings=workload.Options._fields,
  words=_words,
  script=None,
  unit='step',
  same=(),
  shares=False,
  columns=(
    Column('ms_per_step', 'wall ms', 8, 2),
    Column('cpu_ms_per_step', 'cpu ms', 8, 2),
    Column('restarts_per_second', 'steps/s', 8, 1),
    Column('compile_seconds', 'compile s', 9, 1),
    Column('cached_seconds', 'cached s', 8, 1),
    Column('peak_gb', 'peak GB', 7, 2),
    Column('matmul_share', 'of matmul', 9, 2),
    Column('peer_cpu_ms_per_step', 'peer cpu', 8, 1),
    Column('ratio', 'ratio', 5, 2),
  ),
  remark=('lowerings', _lowerings),
)
_ZOO = _MAIN._replace(
  names=zoo(_BATCHES),
  script=_GOLDEN / 'torch_speed.py',
  same=('parameters', 'convolution_flops'),
)
_GENERATIVE = Suite(
  names=list(generative_workload.WORKLOADS),
  check=lambda name: registry.lookup(
    generative_workload.WORKLOADS, name, 'workload'
  ),
  worker='generative_workload',
  settings=generative_workload.SETTINGS,
  words=lambda name, case: [f'--case={case}'],
  script=_GOLDEN / 'torch_generative_speed.py',
  unit='unit',
  same=('parameters', 'generator_parameters'),
  shares=True,
  columns=(
    Column('ms_per_unit', 'wall ms', 8, 3),
    Column('cpu_ms_per_unit', 'cpu ms', 8, 3),
    Column('units_per_second', 'units/s', 8, 1),
    Column('compile_seconds', 'compile s', 9, 1),
    Column('cached_seconds', 'cached s', 8, 1),
    Column('peer_cpu_ms_per_unit', 'peer cpu', 8, 2),
    Column('ratio', 'ratio', 5, 2),
    Column('peer_vmap_cpu_ms_per_unit', 'vmap cpu', 8, 2),
    Column('vmap_ratio', 'vmap ratio', 10, 2),
  ),
  remark=('unit', lambda figures: figures['unit']),
)
_DETECTION = _ZOO._replace(
  names=[
    f'{network}:{batch}:256'
    for network in ('yolov8n', 'yolov8n_basicblock', 'detr_small')
    for batch in (1, 4)
  ],
)
_FOREIGN = _MAIN._replace(
  names=[
    f'{name}:1'
    for name in sorted({*workload.FOREIGN, *workload.FOREIGN.values()})
  ],
)
SUITES = {
  'detection': _DETECTION,
  'foreign': _FOREIGN,
  'generative': _GENERATIVE,
  'main': _MAIN,
  'zoo': _ZOO,
}
