"""Times one workload of the benchmark, and prints the figures as JSON.

python -m giajax.launch.workload NETWORK:BATCH [--restarts=0] [--steps=0]
  [--lowering=auto] [--precision=full] [--local_steps=0]
"""

from . import errors

if __name__ == '__main__':
  errors.begin('starts again')

import collections
from collections.abc import Sequence
import functools
import json
import math
import re
import resource
import sys
import tempfile
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import threat
from giajax import trees
from giajax import types
from giajax.commands import flags
from giajax.commands import process
from giajax.engine import build
from giajax.engine import experiment
from giajax.engine import mesh
from giajax.engine import program as programs
from giajax.engine import provenance
from giajax.engine.sources import simulated
from giajax.models import base as models
from giajax.models import DETECTORS
from giajax.models import inspect
from giajax.models import precision as precisions
from giajax.ops import convolution
from giajax.ops import geometries

from . import timing

COMMAND = 'python -m giajax.launch.workload'
USAGE = f'{COMMAND} NETWORK:BATCH'
FLAGS = (
  flags.Flag(
    'restarts', 'The number of restarts; 0 fills every device.', 0, int, 0
  ),
  flags.Flag(
    'steps', 'The number of steps; 0 takes about two seconds.', 0, int, 0
  ),
  flags.Flag('lowering', 'The lowering of the convolutions.', 'auto'),
  flags.Flag('precision', 'The precision of the attacker.', 'full'),
  flags.Flag(
    'local_steps',
    'Local steps of a FedAvg client, each on the whole batch; 0 is FedSGD.',
    0,
    int,
    0,
  ),
)
_MODELS: dict[str, dict[str, Any]] = {
  'convnet64': {'name': 'convnet', 'width': 64},
  'detr_small': {
    'name': 'detr_resnet50',
    'depth': 18,
    'stages': 3,
    'encoder_layers': 1,
    'decoder_layers': 1,
    'width': 128,
    'heads': 4,
    'hidden': 4,
    'batch_norm': 'trained',
    'dropout': 0.0,
  },
}
# Those of other libraries, each beside giajax's own.
FOREIGN = {
  'linen_resnet18': 'resnet18',
  'torch_resnet18': 'resnet18',
  'equinox_convnet64': 'convnet64',
}
_MODELS |= {
  name: {
    'name': f'{__package__}.foreign_networks:{name}',
    'normalisation': 'imagenet',
  }
  for name in FOREIGN
}
_PASSES = 7  # forward passes that cost as much as a matching step
# The side of the matrices whose product says how fast the device multiplies.
_CPU_SIDE, _ACCELERATOR_SIDE = 2048, 8192


class Workload(NamedTuple):
  """One update to attack: `batch` images of `size` x `size` pixels."""

  network: str
  batch: int
  size: int


class Options(NamedTuple):
  """How a workload is run: the values of `FLAGS`."""

  restarts: int = 0
  steps: int = 0
  lowering: str = 'auto'
  precision: str = 'full'
  local_steps: int = 0


def parse(name: str) -> Workload:
  """Returns the workload that `network:batch` or `network:batch:size` names.

  Raises:
    ValueError: the name has another form.
  """
  network, *numbers = name.split(':')
  if len(numbers) not in (1, 2) or not all(
    re.fullmatch('[0-9]{1,9}', number) for number in numbers
  ):
    raise ValueError(
      'Expected network:batch or network:batch:size; got '
      f'{name!r}; write, for instance, resnet18:8'
    )
  batch, size = (*map(int, numbers), 32)[:2]
  return Workload(network, batch, size)


@errors.reported
def main(argv: Sequence[str]) -> int:
  """Times the workload of a command line and returns the exit code."""
  arguments = flags.read(COMMAND, USAGE, FLAGS, argv[1:])
  if arguments.help:
    print(flags.help_text(__doc__, FLAGS))
    return 0
  process.use_machine()  # as `giajax` does
  options = (getattr(arguments.values, name) for name in Options._fields)
  workload = parse(arguments.words[0])
  with process.devices():
    figures = measure(workload, Options(*options), cached=True)
  print(json.dumps(figures))
  return 0


def measure(
  workload: Workload, options: Options, *, cached: bool = False
) -> dict[str, Any]:
  """Returns the figures of a workload.

  Args:
    workload: the update to attack.
    options: how to run it.
    cached: whether to compile once more, from the cache.

  Raises:
    ValueError: an unknown network, lowering or precision, or more restarts
      than fit into the memory.
  """
  jax.block_until_ready(jnp.zeros(()) + 1)  # the device is up
  asked = timing.now()
  made = setup(workload, options)
  width = programs.restarts_per_batch(made.world)
  restarts = options.restarts or width * jax.device_count()
  programs.check_restarts(made.world, restarts)
  where = mesh.layout(1, restarts, width, together=made.attack.group)
  program = programs.program(made.attack, where, made.products)
  arguments = inputs(made, simulated.item(made, 0).batch, where)

  def bounds(steps):
    return mesh.put((np.int32(0), np.int32(steps)), where, mesh.P())

  carry = program.init(*arguments)
  compile_chunk = compiled_twice if cached else _compiled
  chunk, seconds = compile_chunk(program.chunk, *arguments, carry, *bounds(1))

  def run(carry, steps):
    return jax.block_until_ready(chunk(*arguments, carry, *bounds(steps)))

  carry = run(carry, 1)
  first = timing.since(asked).wall
  began = timing.now()
  carry = run(carry, 1)
  steps = options.steps or max(3, math.ceil(2 / timing.since(began).wall))
  began = timing.now()
  run(carry, steps)
  took = timing.since(began)
  rate = matmul_rate(options.precision, where.mesh.size)
  done = steps * where.restarts
  convolutions, dense = _forward_flops(made)
  flops = _PASSES * (dense + convolutions) * max(1, options.local_steps)
  return {
    **workload._asdict(),
    'precision': options.precision,
    'local_steps': options.local_steps,
    'parameters': sum(
      leaf.size for leaf in jax.tree.leaves(made.variables.params)
    ),
    'convolution_flops': convolutions,
    'lowerings': _lowerings(made.net, workload.batch, options.lowering),
    'restarts': where.restarts,
    'restarts_per_batch': where.restarts_per_batch,
    'steps': steps,
    'ms_per_step': 1e3 * took.wall / done,
    'cpu_ms_per_step': 1e3 * took.cpu / done,
    'restarts_per_second': done / took.wall,
    'compile_seconds': seconds[0],
    'cached_seconds': seconds[-1],
    # A second compilation is not a part of it.
    'first_step_seconds': None if cached else first,
    'peak_gb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    'program_gib': _gib(chunk),
    'matmul_share': flops * done / took.wall / rate,
    # Of the steps, and of all that was timed: compilations are longer.
    'other_load': timing.most([took.other, timing.since(asked).other]),
    'device': provenance.device(),
  }


def setup(workload: Workload, options: Options) -> experiment.Setup:
  """Returns the setting of a workload.

  Raises:
    ValueError: an unknown network, lowering or precision.
  """
  client: dict[str, Any] = {'name': 'fedsgd'}
  if options.local_steps:
    client = {'name': 'fedavg', 'epochs': options.local_steps}
  network = workload.network
  model = _MODELS.get(network, {'name': network})
  detects = model['name'] in DETECTORS
  task = {'name': 'classification'}
  if detects:
    form = 'detr' if model['name'].startswith('detr') else 'yolo'
    task = {'name': 'detection', 'loss': form}
  config = build.resolve(
    {
      'dataset': {
        'name': 'shapes' if detects else 'photographs',
        'size': workload.size,
      },
      'task': task,
      'cases': {'batch_size': workload.batch},
      'model': model,
      'client': client,
      'threat': {'grants': ('labels', 'boxes') if detects else ('labels',)},
      'noise_controls': 0,
      'precision': options.precision,
      'run': {'lowering': options.lowering},
    }
  )
  return build.setup(config)


def _compiled(chunk: Any, *inputs: Any) -> tuple[Any, list[float]]:
  """Returns the compiled function, and the seconds of its compilation."""
  began = time.perf_counter()
  compiled = chunk.lower(*inputs).compile()
  return compiled, [time.perf_counter() - began]


def compiled_twice(chunk: Any, *inputs: Any) -> tuple[Any, list[float]]:
  """Compiles with an empty cache, and once more from it.

  Args:
    chunk: a jitted function.
    *inputs: its arguments.

  Returns:
    The compiled function, and the seconds of both compilations.
  """
  seconds = []
  # As `giajax` compiles; it keeps programs that took a second or more.
  with tempfile.TemporaryDirectory() as folder:
    jax.config.update('jax_compilation_cache_dir', folder)
    for _ in range(2):
      compiled, own = _compiled(chunk, *inputs)
      seconds += own
      jax.clear_caches()
  return compiled, seconds


def _gib(compiled: Any) -> float | None:
  """Returns the memory of a device that a program needs, as XLA plans it.

  None where it does not say.
  """
  plan = compiled.memory_analysis()
  if plan is None:
    return None
  arrays = plan.argument_size_in_bytes + plan.output_size_in_bytes
  bytes_ = arrays - plan.alias_size_in_bytes + plan.temp_size_in_bytes
  return bytes_ / 2**30


def inputs(
  setup: experiment.Setup,
  batch: types.Batch,
  where: mesh.Layout,
  update: types.Update | None = None,
) -> tuple[types.ServerMessage, types.Observation, types.HParams, types.Array]:
  """Returns the first arguments of a program's functions, for one item.

  Args:
    setup: the setting.
    batch: the images and their labels.
    where: how restarts lie on devices.
    update: what the client sends of them; noise if None.
  """
  message, obs = _observation(setup, batch, update or _noise(setup, batch))
  hp = {k: np.full(1, v, np.float32) for k, v in setup.attack.hparams.items()}
  item, both = mesh.P(mesh.ITEM), mesh.P(mesh.ITEM, mesh.RESTART)
  return (
    mesh.put(message, where, mesh.P()),
    mesh.put(jax.tree.map(lambda a: np.asarray(a)[None], obs), where, item),
    mesh.put(hp, where, item),
    mesh.put(programs.seeds(0, [0], [False], where), where, both),
  )


def _observation(
  setup: experiment.Setup, batch: types.Batch, update: types.Update
) -> tuple[types.ServerMessage, types.Observation]:
  """Returns what an attacker sees of a batch."""
  classes = setup.net.spec.num_classes
  message = types.ServerMessage(setup.variables)
  shown, update = threat.observed(setup.granted, message, update)
  facts = setup.world.task.facts
  side = threat.side(setup.granted, batch, classes, lambda: batch.x, facts)
  return shown, types.Observation(types.NO_MESSAGE, update, side)


def _noise(setup: experiment.Setup, batch: types.Batch) -> types.Update:
  variables, draw = setup.variables, np.random.default_rng(0).normal
  delta = jax.tree.map(
    lambda a: draw(size=a.shape).astype(a.dtype), variables.params
  )
  size = jnp.asarray(len(batch.x), jnp.int32)
  return types.Update(delta, variables.stats, size)


def _lowerings(net: models.Net, batch: int, lowering: str) -> dict[str, int]:
  """Returns the number of convolutions with each lowering, at a batch size."""
  params = trees.named_leaves(inspect.abstract_variables(net).params)

  def chosen(path, site):
    if lowering != 'auto':
      return lowering
    images = (batch, *site.input.shape[1:])
    kernel = params[f'{path}.kernel'].shape
    return convolution.choose(geometries.Shapes(images, kernel, site.geometry))

  sites = inspect.sites(net).items()
  return dict(
    collections.Counter(
      chosen(path, site) for path, site in sites if site.kind == 'conv'
    )
  )


def _forward_flops(setup: experiment.Setup) -> tuple[int, int]:
  """Returns the FLOP of a forward pass: of convolutions, and of all else."""
  net, shapes = setup.net, {}
  probe = net.probe
  assert probe  # every row of MODELS has one
  x = jax.ShapeDtypeStruct((1, *net.spec.image_shape), jnp.float32)

  def visit(variables, x):
    shapes.update(probe(variables, x, None)[2])

  variables = inspect.abstract_variables(net)
  jax.eval_shape(visit, variables, x)
  params = trees.named_leaves(variables.params)
  dense = convolutions = 0
  for path, out in shapes.items():
    kernel = params.get(f'{path}.kernel')
    if kernel is None:
      continue
    flops = 2 * math.prod(out.shape) * math.prod(kernel.shape[:-1])
    if len(kernel.shape) == 4:
      convolutions += flops
    else:
      dense += flops
  return convolutions * setup.world.batch_size, dense * setup.world.batch_size


@functools.cache
def matmul_rate(precision: str, devices: int) -> float:
  """Returns the FLOP/s of a large square product, the best within a second.

  Args:
    precision: a name in `models.precision.PRECISIONS`.
    devices: the number of devices that work at once. Those of a CPU are its
      cores, which one product keeps busy.
  """
  cpu = jax.default_backend() == 'cpu'
  side = _CPU_SIDE if cpu else _ACCELERATOR_SIDE
  dtype = jnp.bfloat16 if precision == 'bfloat16' else jnp.float32
  a = jax.random.normal(jax.random.key(0), (side, side), dtype)
  with jax.default_matmul_precision(precisions.PRECISIONS[precision].products):
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    seconds, end = [], time.perf_counter() + 1
    while time.perf_counter() < end:
      began = time.perf_counter()
      for _ in range(5):
        latest = product(a, a)
      latest.block_until_ready()
      seconds.append(time.perf_counter() - began)
  return 5 * 2 * side**3 / min(seconds) * (1 if cpu else devices)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
